#!lua
-- Names the shard's keys and reads what is stored under them. Joined before every script that writes the ledger.

-- All keys of a shard share the prefix of its meta key: one hash tag, one slot.
local prefix = string.match(KEYS[1], '^(.+:{%d+}:)meta$')

-- The largest amount and balance: 2^53 - 1, beyond which a double is not exact.
local AMOUNT_MAX = 9007199254740991
local DEAD_LETTERS_MAX = 10000

-- What each kind of intent does; filled by one short file per kind.
local kinds = {}

local function whole(number)
  return string.format('%.0f', number)
end

-- Refuses a store that is not this shard's, and a worker that is not its owner (any longer).
-- The first touch of a key that never exists fails, before any write, while the slot is migrating.
local function check_owner(epoch, fence)
  redis.call('EXISTS', prefix .. 'absent')
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'fence', 'position')
  if meta[1] ~= epoch then
    return nil, redis.error_reply('FOREIGN the shard has epoch ' .. (meta[1] or 'none') .. ', expected ' .. epoch)
  end
  if meta[2] ~= fence then
    return nil, redis.error_reply('SUPERSEDED the shard belongs to ' .. (meta[2] or 'nobody'))
  end
  return tonumber(meta[3])
end

local function read_account(user)
  local fields = redis.call('HMGET', prefix .. 'account:' .. user, 'posted', 'held', 'seq', 'state', 'at')
  if not fields[1] then
    return nil
  end
  return {
    posted = tonumber(fields[1]),
    held = tonumber(fields[2]),
    held_text = fields[2],
    seq = tonumber(fields[3]),
    state = fields[4],
    at = tonumber(fields[5]),
  }
end

local function receipt_key(intent)
  return prefix .. 'receipt:' .. intent.user .. ':' .. intent.origin .. ':' .. intent.key
end

-- A receipt as it is stored: a JSON array that later versions may only append to.
local function receipt_json(status, intent, posted, held, seq, at)
  return '[1,"' .. status .. '","' .. intent.kind .. '",' .. intent.amount .. ',"' .. intent.action .. '",'
    .. posted .. ',' .. held .. ',' .. seq .. ',' .. at .. ']'
end

local function refused_json(status, intent, account, now)
  if not account then
    return receipt_json(status, intent, '0', '0', '0', whole(now))
  end
  return receipt_json(status, intent, whole(account.posted), whole(account.held), whole(account.seq), whole(now))
end

local function bury(stream, id, raw, reason)
  redis.call('XADD', prefix .. 'dead', 'MAXLEN', '~', DEAD_LETTERS_MAX, '*', 'stream', stream, 'id', id,
    'reason', reason, 'intent', string.sub(raw, 1, 16384))
  redis.call('XDEL', prefix .. stream, id)
end
