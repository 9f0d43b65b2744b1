-- adjust: Corrects an account by a signed amount.
-- applied: account, entry, totals `adjusted`, receipt.
-- insufficient_credits: receipt.
-- balance_too_large: receipt.

kinds.adjust = {
  stream = 'control',
  amount_min = -AMOUNT_MAX,
  frozen = true,
  complaint = function(intent)
    if tonumber(intent.amount) == 0 then return 'amount is too small' end
    if not is_flag(intent.force) then return 'force is malformed' end
  end,
  refusal = function(intent, account)
    local amount = tonumber(intent.amount)
    if account.posted + amount > AMOUNT_MAX then return 'balance_too_large' end
    local short = amount < 0 and account.posted - account.held + amount < 0
    -- Even by force, `posted` stays where a double is exact.
    if short and not (intent.force and account.posted + amount >= -AMOUNT_MAX) then
      return 'insufficient_credits', { required = -amount }
    end
  end,
  effect = function(intent, account)
    local amount = tonumber(intent.amount)
    if amount < 0 then
      draw(account, -amount)
    end
    enter(account, 'adjust', 'adjusted', intent.amount, intent)
  end,
}
