-- Names the shard's keys and knows its owner and its time. What every function that writes the ledger begins with.

-- Short names, for these are used dozens of times an intent; a library learns them at its first call, not at load.
local call, find, format, match, sub, gmatch, gsub, floor, max, min, tonumber

-- The call's keys and arguments, and the prefix that all keys of its shard share: one hash tag, one slot.
local KEYS, ARGV, prefix

-- The largest amount and balance: 2^53 - 1, beyond which a double is not exact.
local AMOUNT_MAX = 9007199254740991
local DEAD_LETTERS_MAX = 10000

-- What each kind of intent does; filled by one short file per kind:
--   stream            the stream that may ask for it; through `control`, jobs and admins may ask for every kind
--   amount_min        smallest amount; -AMOUNT_MAX where it has a sign
--   opens             makes the account, rather than needing it
--   frozen, closed    whether an account in that state accepts it
--   leaves_no_receipt whether it may be repeated without end, and is not remembered
--   repairs           whether it is for accounts that cannot be read, and reads what it needs itself
--   complaint(intent) what is malformed about the fields that only this kind has, or nil
--   refusal(intent, account)  the status that refuses it and its details, or nil; writes nothing
--   effect(intent, account)   writes; returns the details of the receipt, and the account if it made it
local kinds = {}

local function whole(number)
  return format('%.0f', number)
end

-- The store's clock in ms, which every deadline and every end is measured by.
local now, now_text

-- Answers to those who wait, by client; see intent.lua.
local answers

-- What became of each intent, for whoever watches, and when the queue took in the one that is being decided.
local outcomes, arrived

-- By prefix, whether the last `apply` failed; and the stream and id of the intent that it came to, when it was asked for
-- one or the call before had failed: `bury` finds that one here.
local unfinished, deciding = {}, {}

-- Holds and lots that this call has ended, and how many are enough for one: some ms.
local ended
local ENDED_MAX = 128

-- The library outlives its calls: whatever one leaves behind is forgotten here, but for those two.
local function begin(keys, arguments)
  if not call then
    call, tonumber, floor, max, min = redis.call, _G.tonumber, math.floor, math.max, math.min
    find, format, match, sub = string.find, string.format, string.match, string.sub
    gmatch, gsub = string.gmatch, string.gsub
  end
  KEYS, ARGV = keys, arguments
  prefix = match(KEYS[1], '^(.+:{%d+}:)meta$')
  answers, outcomes, arrived, ended = {}, {}, 'null', 0
end

local function read_clock(ahead_ms)
  local time = call('TIME')
  now = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000) + tonumber(ahead_ms)
  now_text = whole(now)
end

-- Refuses a store that is not this shard's, and a worker that is not its owner (any longer).
-- The first touch of a key that never exists fails, before any write, while the slot is migrating.
local function check_owner(epoch, fence)
  call('EXISTS', prefix .. 'absent')
  local meta = call('HMGET', KEYS[1], 'epoch', 'fence', 'position')
  if meta[1] ~= epoch then
    return nil, redis.error_reply('FOREIGN the shard has epoch ' .. (meta[1] or 'none') .. ', expected ' .. epoch)
  end
  if meta[2] ~= fence then
    return nil, redis.error_reply('SUPERSEDED the shard belongs to ' .. (meta[2] or 'nobody'))
  end
  return tonumber(meta[3])
end

-- Ms until the next hold or lot of the shard ends: 0 if it should have, -1 if there is none.
local function ms_until_due()
  local first = call('ZRANGE', prefix .. 'due', 0, 0, 'WITHSCORES')
  return first[2] and max(0, tonumber(first[2]) - now) or -1
end

local function bury(stream, id, raw, reason)
  call('XADD', prefix .. 'dead', 'MAXLEN', '~', DEAD_LETTERS_MAX, '*', 'stream', stream, 'id', id,
    'reason', reason, 'intent', sub(raw, 1, 16384))
  call('XDEL', prefix .. stream, id)
end
