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
local function is_half_written(intent)
  local fields = redis.pcall('HMGET', prefix .. 'account:' .. intent.user, 'seq', 'posted')
  if fields.err or not fields[1] then
    return false
  end
  local last = redis.pcall('XREVRANGE', prefix .. 'entries:' .. intent.user, '+', '-', 'COUNT', 1)
  if last.err or not last[1] then
    return true
  end
  local entry = last[1][2]
  -- An entry that the account does not show yet, or one of this very intent, which left no receipt.
  return match(last[1][1], '-(%d+)$') ~= fields[1] or entry[8] ~= fields[2]
    or (entry[12] == intent.key and entry[14] == intent.origin)
end

-- The head is what `apply`, asked for one intent, fails on: control goes first.
local stream = 'control'
local head = call('XRANGE', prefix .. stream, '-', '+', 'COUNT', 1)[1]
if not head then
  stream = 'intents'
  head = call('XRANGE', prefix .. stream, '-', '+', 'COUNT', 1)[1]
end
if not head then
  return {}
end

local raw = head[2][2] or ''
local intent = parse(raw, stream)
read_clock(0)
local frozen = intent ~= nil and is_half_written(intent)

-- Writes.
bury(stream, head[1], raw, ARGV[3])
call('HINCRBY', KEYS[1], 'position', 1)
if not intent then
  return { 0 }
end
local receipt = refused_json('intent_failed', intent)
if not kinds[intent.kind].leaves_no_receipt then
  call('SET', receipt_key(intent.user, intent.origin, intent.key), receipt)
end
if frozen then
  call('HSET', prefix .. 'account:' .. intent.user, 'state', 'frozen')
end
answer(intent, 0, receipt)
local reply = { frozen and 1 or 0 }
for client, said in pairs(answers) do
  reply[#reply + 1] = client
  reply[#reply + 1] = said[1]
end
return reply
