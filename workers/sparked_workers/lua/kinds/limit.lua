-- limit: Sets or removes a spend limit of an account. What is spent counts from then on.
-- applied: account, entry, settings, receipt.
-- too_many_limits: receipt.

local function limit_named(account, name)
  for _, limit in ipairs(account.limits or {}) do
    if limit.name == name then return limit end
  end
end

local function limit_name(intent)
  return 'limit:' .. intent.window .. ':' .. intent.of_action
end

kinds.limit = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  complaint = function(intent)
    local window = intent.window
    if not WINDOWS[window] then return 'window is malformed' end
    if intent.of_action ~= '*' and not is_action(intent.of_action) then return 'of_action is malformed' end
    if not is_flag(intent.remove) then return 'remove is malformed' end
  end,
  refusal = function(intent, account)
    if not intent.remove and not limit_named(account, limit_name(intent)) and #(account.limits or {}) >= LIMITS_MAX then
      return 'too_many_limits', { most = LIMITS_MAX }
    end
  end,
  effect = function(intent, account)
    local name = limit_name(intent)
    enter(account, 'limit', nil, '0', intent)
    if intent.remove then
      call('HDEL', prefix .. 'settings:' .. account.user, name)
    else
      local limit = limit_named(account, name) or { name = name, buckets = {} }
      limit.most, limit.told = tonumber(intent.amount), nil
      save_limit(account, limit)
    end
    reread_settings(account)
  end,
}
