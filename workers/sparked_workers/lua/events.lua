#!lua
-- events: Keeps the records of outgoing events and of their deliveries, each change in one call.
-- KEYS[1]  hash of how far each source was read, `<namespace>:{jobs}:cursors`; it names the others' prefix
-- ARGV[1]  `relay`, `claim`, `settle`, `abandon`, `redeliver` or `prune`
-- ARGV[2]  relay: the source; claim, settle, abandon, redeliver: the endpoint's name; prune: ms to keep what is done
-- ARGV[3]  relay: the source's cursor, '' for none; claim: ms until another may claim it; settle, redeliver: the event's
--          id; abandon: ms overdue; prune: how many done events to keep
-- ARGV[4]  relay: the cursor to come; settle: attempts made before this one; abandon: why; prune: most to remove now
-- ARGV[5]  relay: most deliveries that may wait for one endpoint; settle: what came of it, in words
-- ARGV[6]  settle: ms until the next attempt, 0 if it was delivered, -1 if there is no next
-- The rest  relay: for each event its id, type, time (ms), body and the names of its endpoints, separated by spaces
-- Returns relay: new events, or -1 if another has moved the cursor; claim: {id, type, body, attempts made, time (ms)}
-- or {}; settle: the delivery's state now; abandon, prune: how many; redeliver: 1, or 0 if there is no such event.

local call, format, match, gmatch = redis.call, string.format, string.match, string.gmatch

-- Of deliveries that were given up, the oldest go: about 100 MB.
local DEAD_MAX = 100000
local ABANDONED_AT_ONCE = 100

local prefix = match(KEYS[1], '^(.+:{jobs}:)cursors$')
local finished, undelivered = prefix .. 'finished', prefix .. 'undelivered'

local time = call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now_text = format('%.0f', now)

local function record(id)
  return prefix .. 'event:' .. id
end

local function waiting(endpoint)
  return prefix .. 'deliveries:' .. endpoint
end

-- An event is finished, and may be removed in time, when none of its deliveries is pending or dead.
local function is_open(state)
  return state == 'pending' or state == 'dead'
end

local function set_state(endpoint, id, state)
  local before = call('HGET', record(id), 'state:' .. endpoint)
  call('HSET', record(id), 'state:' .. endpoint, state)
  local change = (is_open(state) and 1 or 0) - (is_open(before) and 1 or 0)
  if call('HINCRBY', record(id), 'open', change) == 0 then
    call('ZADD', finished, now_text, id)
  else
    call('ZREM', finished, id)
  end
end

local function await(endpoint, id, due)
  set_state(endpoint, id, 'pending')
  call('ZADD', waiting(endpoint), due, id)
end

local function give_up(endpoint, id, why)
  call('ZREM', waiting(endpoint), id)
  call('HSET', record(id), 'outcome:' .. endpoint, why)
  set_state(endpoint, id, 'dead')
  call('ZADD', undelivered, now_text, endpoint .. '|' .. id)
  while call('ZCARD', undelivered) > DEAD_MAX do
    local oldest_endpoint, oldest = match(call('ZPOPMIN', undelivered)[1], '^(.-)|(.+)$')
    set_state(oldest_endpoint, oldest, 'dropped')
  end
end

local what = {}

function what.relay(source, cursor, to, waiting_max)
  if (call('HGET', KEYS[1], source) or '') ~= cursor then
    return -1
  end
  -- Writes.
  local new = 0
  for at = 6, #ARGV, 5 do
    local id = ARGV[at]
    if call('EXISTS', record(id)) == 0 then
      new = new + 1
      call('HSET', record(id), 'v', 1, 'type', ARGV[at + 1], 'at', ARGV[at + 2], 'body', ARGV[at + 3], 'open', 0)
      call('ZADD', prefix .. 'events', ARGV[at + 2], id)
      call('ZADD', finished, now_text, id)
      for endpoint in gmatch(ARGV[at + 4], '%S+') do
        if call('ZCARD', waiting(endpoint)) < tonumber(waiting_max) then
          -- The fraction keeps the order in which they happened.
          await(endpoint, id, format('%.3f', now + new / 1000))
        else
          give_up(endpoint, id, waiting_max .. ' others were waiting for this endpoint')
        end
      end
    end
  end
  call('HSET', KEYS[1], source, to)
  return new
end

function what.claim(endpoint, claim_ms)
  local id = call('ZRANGEBYSCORE', waiting(endpoint), '-inf', now_text, 'LIMIT', 0, 1)[1]
  if not id then
    return {}
  end
  local event = call('HMGET', record(id), 'type', 'body', 'attempts:' .. endpoint)
  -- Writes.
  if not event[1] then
    call('ZREM', waiting(endpoint), id)
    return {}
  end
  call('ZADD', waiting(endpoint), format('%.0f', now + tonumber(claim_ms)), id)
  return { id, event[1], event[2], event[3] or '0', now_text }
end

function what.settle(endpoint, id, attempts, outcome, next_ms)
  local state, made = unpack(call('HMGET', record(id), 'state:' .. endpoint, 'attempts:' .. endpoint))
  local delivered = next_ms == '0'
  -- An attempt that outlasted its claim decides nothing any more, unless it brought the event there.
  if state == 'delivered' or not state or (not delivered and (state ~= 'pending' or (made or '0') ~= attempts)) then
    return state or 'gone'
  end
  -- Writes.
  call('HSET', record(id), 'attempts:' .. endpoint, format('%.0f', tonumber(attempts) + 1),
    'outcome:' .. endpoint, outcome, 'last:' .. endpoint, now_text)
  if delivered then
    call('ZREM', waiting(endpoint), id)
    call('ZREM', undelivered, endpoint .. '|' .. id)
    set_state(endpoint, id, 'delivered')
    return 'delivered'
  end
  if next_ms == '-1' then
    give_up(endpoint, id, outcome)
    return 'dead'
  end
  call('ZADD', waiting(endpoint), format('%.0f', now + tonumber(next_ms)), id)
  return 'pending'
end

function what.abandon(endpoint, overdue_ms, why)
  local before = format('%.0f', now - tonumber(overdue_ms))
  local overdue = call('ZRANGEBYSCORE', waiting(endpoint), '-inf', before, 'LIMIT', 0, ABANDONED_AT_ONCE)
  -- Writes.
  for _, id in ipairs(overdue) do
    give_up(endpoint, id, why)
  end
  return #overdue
end

function what.redeliver(endpoint, id)
  if call('EXISTS', record(id)) == 0 then
    return 0
  end
  -- Writes.
  call('HDEL', record(id), 'attempts:' .. endpoint)
  call('ZREM', undelivered, endpoint .. '|' .. id)
  await(endpoint, id, now_text)
  return 1
end

function what.prune(keep_ms, keep, most)
  local surplus = call('ZCARD', finished) - tonumber(keep)
  local old = call('ZCOUNT', finished, '-inf', format('%.0f', now - tonumber(keep_ms)))
  local count = math.min(math.max(surplus, old), tonumber(most))
  -- Writes.
  for _ = 1, count do
    local id = call('ZPOPMIN', finished)[1]
    call('DEL', record(id))
    call('ZREM', prefix .. 'events', id)
  end
  return math.max(count, 0)
end

return what[ARGV[1]](ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
