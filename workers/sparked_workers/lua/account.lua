-- Reads an account, and writes entries: the only way in which one changes.

local function read_settings(account)
  local settings = call('HGETALL', prefix .. 'settings:' .. account.user)
  for i = 1, #settings, 2 do
    local name, value = settings[i], settings[i + 1]
    account.settings = true
    if name == 'debt' then
      account.debt = tonumber(value)
    elseif name == 'thresholds' then
      account.thresholds = value
    else
      account.limits = account.limits or {}
      table.insert(account.limits, read_limit(name, value))
    end
  end
  if account.limits then
    table.sort(account.limits, function(one, other) return one.name < other.name end)
  end
end

-- After a setting was changed.
local function reread_settings(account)
  account.settings, account.limits, account.thresholds, account.debt = nil, nil, nil, 0
  account.more, account.lots = true, account.lots or {}
  read_settings(account)
end

-- Fails on a number that is none, by adding 0 to it, while nothing is written yet.
local function read_account(user)
  local key = prefix .. 'account:' .. user
  local fields = call('HMGET', key, 'posted', 'held', 'seq', 'state', 'at', 'more')
  if not fields[1] then
    return nil
  end
  local account = {
    user = user,
    posted = tonumber(fields[1]) + 0,
    held = tonumber(fields[2]) + 0,
    seq = tonumber(fields[3]) + 0,
    state = fields[4],
    at = tonumber(fields[5]) + 0,
    posted_text = fields[1],
    held_text = fields[2],
    seq_text = fields[3],
    debt = 0,
  }
  if fields[6] then
    local more = call('HMGET', key, 'lots', 'due')
    account.more = true
    account.lots = read_lots(more[1])
    account.due = tonumber(more[2])
    read_settings(account)
  end
  return account
end

-- Fields of an entry that most have not; empties the account's noted changes.
local function further_fields(account, further)
  local fields = {}
  local function add(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  local hold = further.hold or 0
  add('held', (account.held ~= 0 or hold ~= 0) and account.held_text)
  add('hold', hold ~= 0 and whole(hold))
  add('lots', changes_text(account))
  add('price', further.price)
  add('of', further.of)
  return fields
end

-- Appends an entry to the account's ledger, with what it does to the account and the shard's totals.
--   total    the column of the totals that counts it
--   amount   signed text: what it adds to `posted`
--   source   what has its action, key, origin and metadata: mostly the intent
--   further  nil, or: hold (signed: what it adds to `held`), price, of
-- Totals first: of these writes only that one can fail (at 2^63).
local function enter(account, kind, total, amount, source, further)
  local posted = account.posted + tonumber(amount)
  local seq = account.seq + 1
  local posted_text, seq_text, at = whole(posted), whole(seq), now_text
  if account.at > now then
    at = whole(account.at)
  else
    account.at = now
  end
  account.posted, account.seq = posted, seq
  account.posted_text, account.seq_text, account.at_text = posted_text, seq_text, at
  local key = prefix .. 'account:' .. account.user
  local entries, id = prefix .. 'entries:' .. account.user, at .. '-' .. seq_text
  -- Writes.
  if total then
    -- What is charged or has expired is counted without its sign.
    local counted = (total == 'charged' or total == 'expired') and sub(amount, 2) or amount
    call('HINCRBY', prefix .. 'totals', total, counted)
  end
  if not (further or account.changes) and account.held == 0 then
    call('HSET', key, 'posted', posted_text, 'seq', seq_text, 'at', at)
    call('XADD', entries, id, 'v', 1, 'kind', kind, 'amount', amount, 'posted', posted_text,
      'action', source.action, 'key', source.key, 'origin', source.origin, 'metadata', source.metadata)
    return
  end
  further = further or {}
  account.held = account.held + (further.hold or 0)
  account.held_text = whole(account.held)
  call('HSET', key, 'posted', posted_text, 'held', account.held_text, 'seq', seq_text, 'at', at)
  call('XADD', entries, id, 'v', 1, 'kind', kind, 'amount', amount, 'posted', posted_text,
    'action', source.action, 'key', source.key, 'origin', source.origin, 'metadata', source.metadata,
    unpack(further_fields(account, further)))
end

-- Whether something was written of an intent that has no receipt. Reads use pcall here: what is stored may be just what
-- makes `apply` fail.
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
  -- An entry that the account does not show yet, or one of this very intent.
  return match(last[1][1], '-(%d+)$') ~= fields[1] or entry[8] ~= fields[2]
    or (entry[12] == intent.key and entry[14] == intent.origin)
end
