-- charge: Takes credits from an account, as far as they are available.
-- applied: account, entry, totals `charged`, receipt.
-- account_not_found: receipt.
-- account_frozen: receipt.
-- insufficient_credits: receipt.

kinds.charge = {
  stream = 'intents',
  total = 'charged',
  sign = -1,
  amount_min = 1,
  refusal = function(intent, account)
    if not account then return 'account_not_found' end
    if account.state == 'frozen' then return 'account_frozen' end
    if tonumber(intent.amount) > account.posted - account.held then return 'insufficient_credits' end
  end,
}
