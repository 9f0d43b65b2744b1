-- freeze: Has an account refuse charges and holds until it is unfrozen.
-- applied: account, entry, event `account_frozen` if it changed something, receipt.

-- Shared with `unfreeze` and `close`.
local function set_state(intent, account, state, event)
  local changed = account.state ~= state
  account.state = state
  enter(account, intent.kind, nil, '0', intent)
  call('HSET', prefix .. 'account:' .. account.user, 'state', state)
  if changed then
    tell(account, 'account_' .. event, '{}')
  end
end

kinds.freeze = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  refusal = function() end,
  effect = function(intent, account)
    set_state(intent, account, 'frozen', 'frozen')
  end,
}
