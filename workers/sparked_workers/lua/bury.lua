-- bury: Removes one intent on which `apply` itself fails, so that its shard goes on.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- ARGV[1]  epoch the store must have
-- ARGV[2]  fence of the calling worker
-- ARGV[3]  the error, in words
-- Returns {1 if the account was half written and is now frozen else 0, client, answer}, or {} for an empty shard.
-- Errors FOREIGN, SUPERSEDED: nothing was written.
-- intent_failed: dead letter, receipt; the account is frozen if something of the intent was written.

local position, not_owner = check_owner(ARGV[1], ARGV[2])
if not position then
  return not_owner
end

-- Reads use pcall here: what is stored may be just what makes `apply` fail.
local function is_half_written(user)
  local fields = redis.pcall('HMGET', prefix .. 'account:' .. user, 'seq', 'posted')
  if fields.err or not fields[1] then
    return false
  end
  local last = redis.pcall('XREVRANGE', prefix .. 'entries:' .. user, '+', '-', 'COUNT', 1)
  if last.err or not last[1] then
    return true
  end
  return string.match(last[1][1], '-(%d+)$') ~= fields[1] or last[1][2][8] ~= fields[2]
end

-- The head is what `apply`, asked for one intent, fails on: control goes first.
local stream = 'control'
local head = redis.call('XRANGE', prefix .. stream, '-', '+', 'COUNT', 1)[1]
if not head then
  stream = 'intents'
  head = redis.call('XRANGE', prefix .. stream, '-', '+', 'COUNT', 1)[1]
end
if not head then
  return {}
end

local raw = head[2][2] or ''
local intent = parse(raw, stream)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local frozen = intent ~= nil and is_half_written(intent.user)

-- Writes.
bury(stream, head[1], raw, ARGV[3])
redis.call('HINCRBY', KEYS[1], 'position', 1)
if not intent then
  return { 0 }
end
local receipt = refused_json('intent_failed', intent, nil, now)
redis.call('SET', receipt_key(intent), receipt)
if frozen then
  redis.call('HSET', prefix .. 'account:' .. intent.user, 'state', 'frozen')
end
answer(intent, 0, receipt)
local reply = { frozen and 1 or 0 }
for client, said in pairs(answers) do
  reply[#reply + 1] = client
  reply[#reply + 1] = said[1]
end
return reply
