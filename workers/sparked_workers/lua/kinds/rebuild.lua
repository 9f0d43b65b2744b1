-- rebuild: Repairs an account's cached numbers from its ledger, and records what they were.
-- applied: account, entry with `before` and `after`, receipt.
-- stale: nothing; the sums are too old.

-- Entries that are added up here, rather than by the asker: a few ms.
local TAIL_MAX = 1000

-- Shared with `checkpoint`: what the entries up to one of them sum up to.
local function sums_complaint(intent)
  if type(intent.id) ~= 'string' or not find(intent.id, '^%d+%-%d+$') then return 'id is malformed' end
  if not is_signed_amount(intent.posted) or not is_amount(intent.held) then return 'sums are malformed' end
  if type(intent.lots) ~= 'string' or #intent.lots > 16384 then return 'lots are malformed' end
  if intent.state ~= 'open' and intent.state ~= 'frozen' and intent.state ~= 'closed' then return 'state is malformed' end
end

local STATE_AFTER = { freeze = 'frozen', unfreeze = 'open', close = 'closed' }

-- Adds an entry to the sums, which are an account in the making.
local function add_entry(sums, row)
  local fields = {}
  for i = 1, #row[2], 2 do
    fields[row[2][i]] = row[2][i + 1]
  end
  sums.at, sums.seq = match(row[1], '^(%d+)%-(%d+)$')
  sums.posted = sums.posted + tonumber(fields.amount)
  sums.held = sums.held + tonumber(fields.hold or '0')
  sums.state = STATE_AFTER[fields.kind] or sums.state
  for name, available, held in gmatch(fields.lots or '', '([^= ]+)=(-?%d+)/?(-?%d*)') do
    if name ~= 'paid' then
      local lot = lot_named(sums, name)
      lot.available = lot.available + tonumber(available)
      lot.held = lot.held + (tonumber(held) or 0)
    end
  end
end

-- An account's numbers, as texts; what is no number stays a text, for that is what was found.
local function numbers_json(posted, held, seq, state, lots)
  local function number(text)
    return is_signed_amount(text) and whole(tonumber(text)) or cjson.encode(text or '')
  end
  return '{"posted":' .. number(posted) .. ',"held":' .. number(held) .. ',"seq":' .. number(seq)
    .. ',"state":' .. cjson.encode(state or '') .. ',"lots":' .. cjson.encode(lots or '') .. '}'
end

-- The sums with all later entries, or nil where those are too many.
local function sums_until_now(intent)
  local tail = call('XRANGE', prefix .. 'entries:' .. intent.user, intent.id, '+', 'COUNT', TAIL_MAX + 2)
  if #tail > TAIL_MAX + 1 or not tail[1] or tail[1][1] ~= intent.id then
    return nil
  end
  local sums = { posted = tonumber(intent.posted), held = tonumber(intent.held), lots = read_lots(intent.lots),
    state = intent.state }
  sums.at, sums.seq = match(intent.id, '^(%d+)%-(%d+)$')
  for i = 2, #tail do
    add_entry(sums, tail[i])
  end
  return sums
end

-- Lists those that were placed and never settled, of which the account may have lost some. What is settled says so; one
-- whose end cannot be read can still be captured or voided.
local function list_open_holds(account, names)
  for name in gmatch(names, '%S+') do
    local hold = call('HMGET', hold_key(account, name), 'state', 'expires_at')
    if hold[1] == 'open' and is_digits(hold[2], 15) then
      call('ZADD', prefix .. 'holds:' .. account.user, hold[2], name)
    end
  end
end

kinds.rebuild = {
  stream = 'control',
  amount_min = 0,
  opens = true,
  repairs = true,
  frozen = true,
  closed = true,
  complaint = function(intent)
    if intent.holds ~= nil and not is_line(intent.holds, INTENT_BYTES_MAX) then return 'holds are malformed' end
    return sums_complaint(intent)
  end,
  refusal = function(intent)
    intent.sums = sums_until_now(intent)
    if not intent.sums then return 'stale' end
  end,
  effect = function(intent)
    local sums = intent.sums
    local key = prefix .. 'account:' .. intent.user
    local found = call('HMGET', key, 'posted', 'held', 'seq', 'state', 'lots')
    local before = call('EXISTS', key) == 1 and numbers_json(unpack(found, 1, 5)) or 'null'
    sums.lots = lots_left(sums.lots)
    local after = numbers_json(whole(sums.posted), whole(sums.held), sums.seq, sums.state, lots_text(sums.lots))
    local asked = find(intent.metadata, '^{.+}$') and sub(intent.metadata, 1, -2) .. ',' or '{'
    local metadata = asked .. '"before":' .. before .. ',"after":' .. after .. '}'
    local rebuilt = { user = intent.user, posted = sums.posted, held = sums.held, seq = tonumber(sums.seq),
      at = tonumber(sums.at), state = sums.state, lots = sums.lots, held_text = whole(sums.held), more = true, debt = 0 }
    read_settings(rebuilt)
    enter(rebuilt, 'rebuild', nil, '0', { action = intent.action, key = intent.key, origin = intent.origin,
      metadata = metadata })
    call('HSET', key, 'v', 1, 'held', rebuilt.held_text, 'state', sums.state)
    call('ZADD', prefix .. 'accounts', 0, intent.user)
    list_open_holds(rebuilt, intent.holds or '')
    -- What was noted to be due may be wrong too; it is noted again with the rest.
    call('HDEL', key, 'due')
    call('ZREM', prefix .. 'due', intent.user)
    expire_lots(rebuilt)
    tell_crossed(rebuilt, (tonumber(found[1]) or 0) - (tonumber(found[2]) or 0))
    return nil, rebuilt
  end,
}
