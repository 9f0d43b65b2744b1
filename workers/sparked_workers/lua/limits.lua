-- Spend limits: so many credits a window, counted in buckets that leave with time.
-- limit_exceeded: receipt; the first one in a window: event `limit_reached`.

local LIMITS_MAX = 16
local WINDOWS = { day = true, month = true, rolling_day = true, ever = true }
local HOUR, DAY = 3600000, 86400000
local DAYS_BEFORE = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 }

-- Months are numbered year * 12 + 0 to 11. The first ms of one, UTC:
local function month_start(month)
  local year, index = floor(month / 12), month % 12
  local before = year - 1
  -- 477 leap years went before 1970.
  local leaps = floor(before / 4) - floor(before / 100) + floor(before / 400) - 477
  local days = (year - 1970) * 365 + leaps + DAYS_BEFORE[index + 1]
  if index > 1 and year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0) then days = days + 1 end
  return days * DAY
end

local function month_of(ms)
  -- Too early by a month at most: months are 30.4 days long on average.
  local month = 1970 * 12 + floor(ms / (30.5 * DAY))
  while month_start(month + 1) <= ms do month = month + 1 end
  while month_start(month) > ms do month = month - 1 end
  return month
end

local function bucket_of(window, ms)
  if window == 'day' then return floor(ms / DAY) end
  if window == 'month' then return month_of(ms) end
  if window == 'ever' then return 0 end
  return floor(ms / HOUR)
end

local function first_counted(window)
  local bucket = bucket_of(window, now)
  return window == 'rolling_day' and bucket - 23 or bucket
end

local function read_limit(name, value)
  local window, action = match(name, '^limit:([%l_]+):(.+)$')
  local most, told = match(value, '^(%d+) (%S+)')
  local limit = { name = name, window = window, action = action, most = tonumber(most), told = tonumber(told),
    buckets = {}, spent = 0 }
  local first = first_counted(window)
  for bucket, spent in gmatch(value, '(%d+)=(%d+)') do
    if tonumber(bucket) >= first then
      table.insert(limit.buckets, { bucket = tonumber(bucket), spent = tonumber(spent) })
      limit.spent = limit.spent + tonumber(spent)
    end
  end
  return limit
end

local function save_limit(account, limit)
  local words = { whole(limit.most), limit.told and whole(limit.told) or '-' }
  for _, each in ipairs(limit.buckets) do
    if each.spent > 0 then words[#words + 1] = whole(each.bucket) .. '=' .. whole(each.spent) end
  end
  call('HSET', prefix .. 'settings:' .. account.user, limit.name, table.concat(words, ' '))
end

local function counts(limit, action)
  return limit.action == '*' or limit.action == action
end

-- When `amount` would fit again, if nothing else were spent; 0 if never.
local function resets_at(limit, amount)
  if amount > limit.most or limit.window == 'ever' then return 0 end
  if limit.window == 'day' then return (bucket_of('day', now) + 1) * DAY end
  if limit.window == 'month' then return month_start(month_of(now) + 1) end
  local spent = limit.spent
  for _, each in ipairs(limit.buckets) do
    spent = spent - each.spent
    if spent + amount <= limit.most then return (each.bucket + 24) * HOUR end
  end
  return 0
end

-- The first limit, by name, that spending `amount` would exceed refuses it.
local function limit_refusal(account, action, amount)
  for _, limit in ipairs(account.limits or {}) do
    if counts(limit, action) and limit.spent + amount > limit.most then
      account.reached = limit
      return 'limit_exceeded', { limit = limit.most, spent = limit.spent, window = limit.window,
        resets_at = resets_at(limit, amount) }
    end
  end
end

-- Tells of a limit that has just refused something, once in its window.
local function tell_reached(account, details)
  local limit = account.reached
  if limit.told and limit.told >= first_counted(limit.window) then
    return
  end
  limit.told = bucket_of(limit.window, now)
  save_limit(account, limit)
  tell(account, 'limit_reached', '{"window":"' .. limit.window .. '","action":"' .. limit.action .. '","limit":'
    .. whole(limit.most) .. ',"spent":' .. whole(limit.spent) .. ',"resets_at":' .. whole(details.resets_at) .. '}')
end

-- Counts `amount` as spent at `at`; a negative one is taken off again, as far as it still counts.
local function count_spent(account, action, amount, at)
  for _, limit in ipairs(account.limits or {}) do
    local bucket = bucket_of(limit.window, at)
    if counts(limit, action) and bucket >= first_counted(limit.window) then
      local place
      for _, each in ipairs(limit.buckets) do
        if each.bucket == bucket then place = each end
      end
      if not place then
        place = { bucket = bucket, spent = 0 }
        table.insert(limit.buckets, place)
        table.sort(limit.buckets, function(one, other) return one.bucket < other.bucket end)
      end
      local before = place.spent
      place.spent = max(0, before + amount)
      limit.spent = limit.spent + place.spent - before
      save_limit(account, limit)
    end
  end
end
