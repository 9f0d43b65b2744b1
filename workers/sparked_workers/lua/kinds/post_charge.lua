-- post_charge: Takes credits for what is done already, as far as they are available or may be owed.
-- applied: account, entry, totals `charged`, receipt.
-- insufficient_credits: receipt.

kinds.post_charge = {
  stream = 'control',
  amount_min = 1,
  complaint = price_complaint,
  refusal = function(intent, account)
    local amount = tonumber(intent.amount)
    if amount > account.posted - account.held + account.debt then return 'insufficient_credits' end
  end,
  effect = take,
}
