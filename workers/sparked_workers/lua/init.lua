#!lua
-- init: Sets up one shard of a new store; a shard that is set up already is left as it is.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- KEYS[2]  its `intents` stream
-- KEYS[3]  its `control` stream
-- ARGV[1]  epoch of the store
-- Returns the shard's epoch, which is ARGV[1] if all is well.

local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch then
  return epoch
end
-- Writes.
for i = 2, 3 do
  local id = redis.call('XADD', KEYS[i], '*', 'intent', '')
  redis.call('XDEL', KEYS[i], id)
end
redis.call('HSET', KEYS[1], 'v', 1, 'min_reader', 1, 'epoch', ARGV[1], 'fence', '0:', 'position', 0, 'generation', 0)
return ARGV[1]
