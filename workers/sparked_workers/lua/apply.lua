-- apply: Decides the intents at the head of the shard's two streams, each at most once, and removes them.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- ARGV[1]  epoch the store must have
-- ARGV[2]  fence of the calling worker
-- ARGV[3]  intents to decide at most, 1 to 128
-- ARGV[4]  ms added to the store's clock; 0 but in tests
-- Returns {position, 1 if more is waiting else 0, dead letters, client, answers, client, …}
-- Errors FOREIGN, SUPERSEDED: nothing was written.
-- intent_expired: receipt.
-- idempotency_conflict: nothing.
-- foreign_epoch: nothing.
-- malformed: dead letter.

local position, not_owner = check_owner(ARGV[1], ARGV[2])
if not position then
  return not_owner
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[4])
local now_text = whole(now)
local dead = 0

-- Writes an applied intent. Totals first: of these four, only that one can fail (at 2^63).
local function write(intent, kind, account)
  local user = intent.user
  local signed = kind.sign < 0 and '-' .. intent.amount or intent.amount
  local posted = whole((account and account.posted or 0) + tonumber(signed))
  local held = account and account.held_text or '0'
  local seq = whole((account and account.seq or 0) + 1)
  local at = account and account.at > now and whole(account.at) or now_text
  local receipt = receipt_json('applied', intent, posted, held, seq, at)
  -- Writes.
  redis.call('HINCRBY', prefix .. 'totals', kind.total, intent.amount)
  if account then
    redis.call('HSET', prefix .. 'account:' .. user, 'posted', posted, 'seq', seq, 'at', at)
  else
    redis.call('HSET', prefix .. 'account:' .. user, 'v', 1, 'posted', posted, 'held', 0, 'seq', seq,
      'state', 'open', 'at', at)
  end
  redis.call('XADD', prefix .. 'entries:' .. user, at .. '-' .. seq, 'v', 1, 'kind', intent.kind,
    'amount', signed, 'posted', posted, 'action', intent.action, 'key', intent.key, 'origin', intent.origin,
    'metadata', intent.metadata)
  redis.call('SET', receipt_key(intent), receipt)
  return receipt
end

-- The stored receipt answers for its key for ever; another payload under the key is a conflict.
local function replay(intent, stored)
  local kind, amount, action = string.match(stored, '^%[%d+,"[%l_]+","(%l+)",(%d+),"([^"]*)"')
  if kind == intent.kind and amount == intent.amount and action == intent.action then
    return answer(intent, 1, stored)
  end
  answer(intent, 0, (string.gsub(stored, '"[%l_]+"', '"idempotency_conflict"', 1)))
end

local function decide(intent)
  if intent.epoch ~= ARGV[1] then
    return answer(intent, 0, refused_json('foreign_epoch', intent, nil, now))
  end
  local stored = redis.call('GET', receipt_key(intent))
  if stored then
    return replay(intent, stored)
  end
  local kind = kinds[intent.kind]
  local account = read_account(intent.user)
  local status = intent.deadline and now > tonumber(intent.deadline) and 'intent_expired'
    or kind.refusal(intent, account)
  if not status then
    return answer(intent, 0, write(intent, kind, account))
  end
  local receipt = refused_json(status, intent, account, now)
  -- Writes.
  redis.call('SET', receipt_key(intent), receipt)
  answer(intent, 0, receipt)
end

-- Decides up to `most` intents of a stream and removes them; returns how many, and whether more wait.
local function drain(stream, most)
  local name = prefix .. stream
  local waiting = redis.call('XRANGE', name, '-', '+', 'COUNT', most + 1)
  local count = math.min(#waiting, most)
  if count == 0 then
    return 0, #waiting > 0
  end
  for i = 1, count do
    local raw = waiting[i][2][2] or ''
    local intent, reason, unread = parse(raw, stream)
    if intent then
      decide(intent)
    else
      dead = dead + 1
      bury(stream, waiting[i][1], raw, reason)
      answer(unread, 0, '[1,"malformed","unknown",0,"unknown",0,0,0,' .. now_text .. ']')
    end
  end
  if #waiting > count then
    redis.call('XTRIM', name, 'MINID', waiting[count + 1][1])
    return count, true
  end
  redis.call('XTRIM', name, 'MAXLEN', 0)
  return count, false
end

-- Control goes first, in bounded share, so that neither stream starves the other.
local most = tonumber(ARGV[3])
local decided, more = drain('control', math.max(1, math.floor(most / 4)))
local decided_intents, more_intents = drain('intents', most - decided)
decided = decided + decided_intents
if decided > 0 then
  position = redis.call('HINCRBY', KEYS[1], 'position', decided)
end

local reply = { position, (more or more_intents) and 1 or 0, dead }
for client, said in pairs(answers) do
  reply[#reply + 1] = client
  reply[#reply + 1] = table.concat(said, ',')
end
return reply
