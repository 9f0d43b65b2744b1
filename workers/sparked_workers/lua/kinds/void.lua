-- void: Releases a hold.
-- applied: account, entry, hold, receipt.
-- hold_not_found: receipt.
-- hold_settled: receipt.

kinds.void = {
  stream = 'intents',
  amount_min = 0,
  frozen = true,
  complaint = target_complaint,
  refusal = function(intent, account)
    local status, details = open_hold_refusal(intent, account)
    if status == 'hold_not_found' or status == 'hold_settled' then return status, details end
  end,
  effect = function(intent, account)
    local hold = intent.hold
    settle_hold(account, hold, 'voided', {}, hold.parts, intent.origin .. ':' .. intent.key)
    intent.amount, intent.action = whole(hold.amount), hold.action
    enter(account, 'void', nil, '0', intent, { hold = -hold.amount, of = hold.name })
    count_spent(account, hold.action, -hold.amount, hold.at)
  end,
}
