-- close: Has an account refuse everything, for ever. What is due of it still ends.
-- applied: account, entry, event `account_closed` if it changed something, receipt.

kinds.close = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  refusal = function() end,
  effect = function(intent, account)
    set_state(intent, account, 'closed', 'closed')
  end,
}
