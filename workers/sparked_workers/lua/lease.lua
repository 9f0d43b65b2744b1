#!lua
-- lease: Takes, keeps or gives up the ownership of a shard.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- KEYS[2]  the shard's lease, `<namespace>:{<shard>}:lease`
-- ARGV[1]  epoch the store must have
-- ARGV[2]  `take`, `keep` or `release`
-- ARGV[3]  take: the worker's random id; keep, release: the fence it was given
-- ARGV[4]  take, keep: ms until the lease ends unless it is kept
-- Returns take: {fence, position, generation}, or {} while another owns it; keep, release: 1, or 0 if superseded.
-- Errors FOREIGN: nothing was written.

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'fence', 'position', 'generation')
if meta[1] ~= ARGV[1] then
  return redis.error_reply('FOREIGN the shard has epoch ' .. (meta[1] or 'none') .. ', expected ' .. ARGV[1])
end

if ARGV[2] == 'take' then
  if redis.call('EXISTS', KEYS[2]) == 1 then
    return {}
  end
  -- A number alone could be handed out twice by a failover that forgets the first; hence the random id.
  local fence = string.format('%.0f', (tonumber(string.match(meta[2], '^%d+')) or 0) + 1) .. ':' .. ARGV[3]
  -- Writes.
  redis.call('HSET', KEYS[1], 'fence', fence)
  redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])
  return { fence, meta[3], meta[4] }
end

if meta[2] ~= ARGV[3] then
  return 0
end
-- Writes.
if ARGV[2] == 'keep' then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
else
  redis.call('DEL', KEYS[2])
end
return 1
