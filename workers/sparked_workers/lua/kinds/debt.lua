-- debt: Sets how many credits an account may owe for post-charges.
-- applied: account, entry, settings, receipt.

kinds.debt = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  refusal = function() end,
  effect = function(intent, account)
    enter(account, 'debt', nil, '0', intent)
    set_setting(account, 'debt', intent.amount, '0')
  end,
}
