#!lua
-- unjam: Gives a stream's entries new ids, in their order, where its ids are used up or far ahead of the clock.
-- KEYS[1]  the stream
-- KEYS[2]  a key of the same slot: the new stream, until it takes the old one's place
-- ARGV[1]  entries to move at most
-- ARGV[2]  ms that the last id may be ahead of the store's clock
-- Returns {1 if the stream was replaced else 0, entries in it}; a stream that is not jammed is left as it is.

-- Of an entry with more fields, which is none of ours, only the first are kept: a worker reads the first.
local FIELDS_MAX = 1000

local length = redis.call('XLEN', KEYS[1])
if length > tonumber(ARGV[1]) or redis.call('EXISTS', KEYS[1]) == 0 then
  return { 0, length }
end
local info, last = redis.call('XINFO', 'STREAM', KEYS[1]), nil
for i = 1, #info, 2 do
  if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^%d+')) end
end
if last <= tonumber(redis.call('TIME')[1]) * 1000 + tonumber(ARGV[2]) then
  return { 0, length }
end
local entries = redis.call('XRANGE', KEYS[1], '-', '+')
-- Writes. Whatever fails before the last one leaves the old stream as it was.
redis.call('DEL', KEYS[2])
redis.call('XDEL', KEYS[2], redis.call('XADD', KEYS[2], '*', 'intent', ''))
for _, entry in ipairs(entries) do
  redis.call('XADD', KEYS[2], '*', unpack(entry[2], 1, math.min(#entry[2], FIELDS_MAX)))
end
redis.call('RENAME', KEYS[2], KEYS[1])
return { 1, length }
