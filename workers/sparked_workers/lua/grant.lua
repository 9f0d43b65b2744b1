-- grant: Gives an account credits.
-- applied: account, entry, totals `granted`, receipt.
-- account_not_found: receipt.
-- balance_too_large: receipt.

kinds.grant = {
  stream = 'control',
  total = 'granted',
  sign = 1,
  amount_min = 1,
  refusal = function(intent, account)
    if not account then return 'account_not_found' end
    if account.posted + tonumber(intent.amount) > AMOUNT_MAX then return 'balance_too_large' end
  end,
}
