-- bury: Removes one intent on which `apply` itself fails, so that its shard goes on.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- ARGV[1]  epoch the store must have
-- ARGV[2]  fence of the calling worker
-- ARGV[3]  the error, in words
-- Returns {1 if the account was half written and is now frozen else 0, outcomes, client, answer}, or {} if the intent that
-- failed is not known (any longer): `apply` is to be called again.
-- Errors FOREIGN, SUPERSEDED: nothing was written.
-- intent_failed: dead letter, receipt; the account is frozen if something of the intent was written.

local position, not_owner = check_owner(ARGV[1], ARGV[2])
if not position then
  return not_owner
end

-- Not just the head, for one that goes first may have come to `control` since.
local failed = deciding[prefix]
local stream = failed and failed[1]
local found = failed and call('XRANGE', prefix .. stream, failed[2], failed[2])[1]
if not found then
  return {}
end

local raw = found[2][2] or ''
local intent = parse(raw, stream)
read_clock(0)
arrived = match(found[1], '^%d+')
local receipt_name = intent and receipt_key(intent.user, intent.origin, intent.key)
-- A receipt that is there was not readable. It stays, for what it is of is done.
local done = intent and call('EXISTS', receipt_name) == 1
local frozen = intent and not done and is_half_written(intent)

-- Writes.
bury(stream, found[1], raw, ARGV[3])
call('HINCRBY', KEYS[1], 'position', 1)
if not intent then
  return { 0, '' }
end
local receipt = refused_json('intent_failed', intent)
if not done and not kinds[intent.kind].leaves_no_receipt then
  call('SET', receipt_name, receipt)
end
-- A closed account accepts less than a frozen one, and for ever.
if frozen and call('HGET', prefix .. 'account:' .. intent.user, 'state') ~= 'closed' then
  call('HSET', prefix .. 'account:' .. intent.user, 'state', 'frozen')
end
conclude(intent, receipt)
local reply = { frozen and 1 or 0, table.concat(outcomes, ',') }
for client, said in pairs(answers) do
  reply[#reply + 1] = client
  reply[#reply + 1] = said[1]
end
return reply
