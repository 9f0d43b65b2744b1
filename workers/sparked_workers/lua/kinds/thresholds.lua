-- thresholds: Replaces the amounts that an account tells of when it falls below one of them.
-- applied: account, entry, settings, receipt.

-- Shared with `debt`: stores a setting, or removes it where it is the one that an account has anyway.
local function set_setting(account, name, value, default)
  if value == default then
    call('HDEL', prefix .. 'settings:' .. account.user, name)
  else
    call('HSET', prefix .. 'settings:' .. account.user, name, value)
  end
  reread_settings(account)
end

kinds.thresholds = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  complaint = function(intent)
    local text = intent.thresholds
    if type(text) ~= 'string' or #text > 17 * 16 or find(text, '[^%d ]') then return 'thresholds are malformed' end
    for threshold in gmatch(text, '%d+') do
      if not is_amount(threshold) then return 'thresholds are malformed' end
    end
  end,
  refusal = function() end,
  effect = function(intent, account)
    enter(account, 'thresholds', nil, '0', intent)
    -- Those it is below already are told of when it was above them in between.
    account.thresholds = nil
    set_setting(account, 'thresholds', intent.thresholds, '')
  end,
}
