-- Holds: settling them, and ending what is due of an account.

local HOLDS_MAX = 256

local function hold_key(account, name)
  return prefix .. 'hold:' .. account.user .. ':' .. name
end

-- A hold by its `<origin>:<key>`, or nil.
local function read_hold(account, name)
  local fields = call('HMGET', hold_key(account, name), 'state', 'amount', 'action', 'at', 'lots', 'settled_at')
  if not fields[1] then
    return nil
  end
  local amount = tonumber(fields[2])
  return { name = name, state = fields[1], amount = amount, action = fields[3], at = tonumber(fields[4]),
    parts = read_parts(fields[5], amount), settled_at = fields[6] }
end

-- Ends a hold: `taken` of its parts are spent, `released` go back to their lots. The entry follows.
local function settle_hold(account, hold, state, taken, released, settled_by)
  for _, part in ipairs(taken) do
    move(account, part.name, 0, -part.amount)
  end
  give_back(account, released, 1)
  call('HSET', hold_key(account, hold.name), 'state', state, 'settled_at', now_text)
  if settled_by then
    call('HSET', hold_key(account, hold.name), 'settled_by', settled_by)
  end
  call('ZREM', prefix .. 'holds:' .. account.user, hold.name)
end

local function lapse_hold(account, name)
  local hold = read_hold(account, name)
  local origin, key = match(name, '^([^:]+):(.+)$')
  settle_hold(account, hold, 'expired', {}, hold.parts)
  count_spent(account, hold.action, -hold.amount, hold.at)
  local source = { action = hold.action, key = key, origin = origin, metadata = '' }
  enter(account, 'hold_expired', nil, '0', source, { hold = -hold.amount, of = name })
  tell(account, 'hold_expired', '{"origin":' .. cjson.encode(origin) .. ',"key":' .. cjson.encode(key) .. ',"amount":'
    .. whole(hold.amount) .. '}')
end

local function expire_lot(account, lot)
  local amount = lot.available
  move(account, lot.name, -amount, 0)
  local source = { action = 'lot_expired', key = lot.name, origin = 'system', metadata = '' }
  enter(account, 'lot_expired', 'expired', whole(-amount), source)
  tell(account, 'lot_expired', '{"lot":"' .. lot.name .. '","amount":' .. whole(amount) .. '}')
end

-- The lot that ends next. What is held of one does not end, so a lot that is held as a whole waits.
local function next_lot(account)
  local first
  for _, lot in ipairs(account.lots) do
    if lot.available > 0 and lot.expires < (first and first.expires or math.huge) then first = lot end
  end
  return first
end

local function next_hold(account)
  local first = call('ZRANGE', prefix .. 'holds:' .. account.user, 0, 0, 'WITHSCORES')
  return first[1], tonumber(first[2]) or math.huge
end

-- Stores which lots the account lists and when the next thing of it ends; an account without more goes back to plain.
local function save_more(account)
  local lot = next_lot(account)
  local _, due = next_hold(account)
  due = min(due, lot and lot.expires or math.huge)
  account.lots = lots_left(account.lots)
  local lots = lots_text(account.lots)
  local key = prefix .. 'account:' .. account.user
  if due == math.huge then
    if account.due then
      call('ZREM', prefix .. 'due', account.user)
      call('HDEL', key, 'due')
      account.due = nil
    end
    if lots == '' and not account.settings then
      call('HDEL', key, 'more', 'lots')
      return
    end
    call('HSET', key, 'more', 1, 'lots', lots)
    return
  end
  if due ~= account.due then
    call('ZADD', prefix .. 'due', due, account.user)
    account.due = due
  end
  call('HSET', key, 'more', 1, 'lots', lots, 'due', whole(due))
end

-- Ends the lots that are past, which what was just given back may belong to.
local function expire_lots(account)
  local lot = next_lot(account)
  while lot and lot.expires <= now do
    expire_lot(account, lot)
    lot = next_lot(account)
  end
end

-- Ends what is due of an account, in the order of time.
local function run_timers(account)
  local before = account.posted - account.held
  while true do
    local name, hold_ends = next_hold(account)
    local lot = next_lot(account)
    if name and hold_ends <= now and hold_ends <= (lot and lot.expires or math.huge) then
      lapse_hold(account, name)
    elseif lot and lot.expires <= now then
      expire_lot(account, lot)
    else
      break
    end
    ended = ended + 1
  end
  tell_crossed(account, before)
  save_more(account)
end
