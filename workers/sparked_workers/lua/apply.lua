-- apply: Decides the intents at the head of the shard's two streams, each at most once, and removes them.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- ARGV[1]  epoch the store must have
-- ARGV[2]  fence of the calling worker
-- ARGV[3]  intents to decide at most, 1 to 128; 1 after a batch failed, so that `bury` can tell which one it is
-- ARGV[4]  ms added to the store's clock; 0 but in tests
-- Returns {position, 1 if more is waiting else 0, dead letters, ms until something is due or -1, outcomes,
-- client, answers, …}
-- Errors FOREIGN, SUPERSEDED: nothing was written.
-- account_not_found: receipt.
-- account_frozen: receipt.
-- account_closed: receipt.
-- intent_expired: receipt.
-- idempotency_conflict: nothing.
-- foreign_epoch: nothing.
-- malformed: dead letter.

local position, not_owner = check_owner(ARGV[1], ARGV[2])
if not position then
  return not_owner
end
read_clock(ARGV[4])
local dead = 0
-- After a call that failed, perhaps between two writes, be its worker alive or not.
local alone = ARGV[3] == '1' or unfinished[prefix]
unfinished[prefix] = true

-- The stored receipt answers for its key for ever; another payload under the key is a conflict.
local function replay(intent, stored)
  if is_same_payload(intent, stored) then
    return answer(intent, 1, stored)
  end
  conclude(intent, (gsub(stored, '"[%l_]+"', '"idempotency_conflict"', 1)))
end

local function refusal(kind, intent, account)
  if intent.deadline and now > tonumber(intent.deadline) then return 'intent_expired' end
  if not account and not kind.opens then return 'account_not_found' end
  if account and account.state == 'closed' and not kind.closed then return 'account_closed' end
  if account and account.state == 'frozen' and not kind.frozen then return 'account_frozen' end
  return kind.refusal(intent, account)
end

local function refuse(kind, intent, account, receipt_name, status, details)
  local receipt = refused_json(status, intent, account, details)
  -- Writes.
  if not kind.leaves_no_receipt and status ~= 'stale' then
    call('SET', receipt_name, receipt)
  end
  if account and account.reached then
    tell_reached(account, details)
  end
  conclude(intent, receipt)
end

local function apply(kind, intent, account, receipt_name)
  local before = account and account.posted - account.held
  -- Writes.
  local details, opened = kind.effect(intent, account)
  account = opened or account
  if account.more then
    expire_lots(account)
    tell_crossed(account, before or 0)
    save_more(account)
  end
  local receipt = receipt_json('applied', intent, account.posted_text, account.held_text, account.seq_text,
    account.at_text or now_text, details)
  if not kind.leaves_no_receipt then
    call('SET', receipt_name, receipt)
  end
  conclude(intent, receipt)
end

local function decide(intent)
  if intent.epoch ~= ARGV[1] then
    return conclude(intent, refused_json('foreign_epoch', intent))
  end
  local kind = kinds[intent.kind]
  local receipt_name = receipt_key(intent.user, intent.origin, intent.key)
  local stored = not kind.leaves_no_receipt and call('GET', receipt_name)
  if stored then
    return replay(intent, stored)
  end
  -- Without a receipt it would be applied again; `bury` says what has become of it.
  if alone and not kind.repairs and is_half_written(intent) then
    error('the account is half written')
  end
  local account = not kind.repairs and read_account(intent.user) or nil
  -- Writes: what is due of the account is an effect of its own, before the intent's.
  if account and account.due and account.due <= now then
    run_timers(account)
  end
  local status, details = refusal(kind, intent, account)
  if status then
    return refuse(kind, intent, account, receipt_name, status, details)
  end
  apply(kind, intent, account, receipt_name)
end

-- Decides up to `most` intents of a stream and removes them; returns how many, and whether more wait.
local function drain(stream, most)
  local name = prefix .. stream
  local waiting = call('XRANGE', name, '-', '+', 'COUNT', most + 1)
  local count = min(#waiting, most)
  if count == 0 then
    return 0, #waiting > 0
  end
  for i = 1, count do
    if alone then deciding[prefix] = { stream, waiting[i][1] } end
    local raw = waiting[i][2][2] or ''
    local intent, reason, unread = parse(raw, stream)
    arrived = match(waiting[i][1], '^%d+')
    if intent then
      decide(intent)
    else
      dead = dead + 1
      bury(stream, waiting[i][1], raw, reason)
      local receipt = '[1,"malformed","unknown",0,"unknown",0,0,0,' .. now_text .. ']'
      publish('', receipt)
      answer(unread, 0, receipt)
    end
    -- What was due of their accounts may be far more work than the intents themselves.
    if ended >= ENDED_MAX then
      count = i
      break
    end
  end
  if #waiting > count then
    call('XTRIM', name, 'MINID', waiting[count + 1][1])
    return count, true
  end
  call('XTRIM', name, 'MAXLEN', 0)
  return count, false
end

-- Control goes first, in bounded share, so that neither stream starves the other.
local most = tonumber(ARGV[3])
local decided, more = drain('control', max(1, floor(most / 4)))
local decided_intents, more_intents = drain('intents', most - decided)
decided = decided + decided_intents
if decided > 0 then
  position = call('HINCRBY', KEYS[1], 'position', decided)
end

unfinished[prefix] = nil
local reply = { position, (more or more_intents) and 1 or 0, dead, ms_until_due(), table.concat(outcomes, ',') }
for client, said in pairs(answers) do
  reply[#reply + 1] = client
  reply[#reply + 1] = table.concat(said, ',')
end
return reply
