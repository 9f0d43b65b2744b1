-- open: Opens an account with some credits, which may be none.
-- applied: account, entry, totals `granted`, receipt.
-- account_exists: receipt.

kinds.open = {
  stream = 'control',
  total = 'granted',
  sign = 1,
  amount_min = 0,
  refusal = function(_, account)
    if account then return 'account_exists' end
  end,
}
