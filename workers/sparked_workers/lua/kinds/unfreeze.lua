-- unfreeze: Has a frozen account accept charges and holds again.
-- applied: account, entry, event `account_unfrozen` if it changed something, receipt.

kinds.unfreeze = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  refusal = function() end,
  effect = function(intent, account)
    set_state(intent, account, 'open', 'unfrozen')
  end,
}
