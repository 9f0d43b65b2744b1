-- grant: Gives an account credits, which may expire. What it owes is paid first.
-- applied: account, entry `repayment` of what was owed, entry of the rest, totals `granted`, receipt.
-- balance_too_large: receipt.
-- grant_expired: receipt.
-- too_many_lots: receipt.

local function lot_to_grant(intent, account)
  if intent.expires_at and intent.expires_at ~= '' then
    return intent.priority .. '-' .. intent.expires_at .. '-' .. whole(account.seq + 1)
  end
  return intent.priority or 'paid'
end

kinds.grant = {
  stream = 'control',
  amount_min = 1,
  frozen = true,
  complaint = function(intent)
    local priority, expires_at = intent.priority, intent.expires_at
    if priority ~= nil and priority ~= 'paid' and priority ~= 'promotional' then return 'priority is malformed' end
    if expires_at ~= nil and expires_at ~= '' and not (priority and is_digits(expires_at, 15)) then
      return 'expires_at is malformed'
    end
  end,
  refusal = function(intent, account)
    local lot = lot_to_grant(intent, account)
    local _, expires = terms_of(lot)
    if expires <= now then return 'grant_expired' end
    if #(account.lots or {}) >= LOTS_MAX and lot ~= 'paid' and not find_lot(account, lot)
      and tonumber(intent.amount) > owed(account) then
      return 'too_many_lots', { most = LOTS_MAX }
    end
    if account.posted + tonumber(intent.amount) > AMOUNT_MAX then return 'balance_too_large' end
  end,
  effect = function(intent, account)
    local amount = tonumber(intent.amount)
    local repaid = min(amount, owed(account))
    if repaid > 0 then
      enter(account, 'repayment', 'granted', whole(repaid), intent)
    end
    if amount > repaid then
      local lot = lot_to_grant(intent, account)
      if account.lots or lot ~= 'paid' then
        move(account, lot, amount - repaid, 0)
      end
      enter(account, 'grant', 'granted', whole(amount - repaid), intent)
    end
  end,
}
