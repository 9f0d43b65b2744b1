#!lua
-- run: Takes, keeps or gives up the lease of reconciliations, and saves how far its owner's run has come.
-- KEYS[1]  the lease, `<namespace>:{jobs}:reconciling`
-- KEYS[2]  the run's hash, `<namespace>:{jobs}:run:<id>`
-- ARGV[1]  who asks: a random id and the run's
-- ARGV[2]  ms until the lease ends unless it is kept; 0 gives it up
-- ARGV[3]  1 if the run must be there already, else 0
-- The rest  fields of the run and their values
-- Returns 1; 0 if another has the lease, -1 if the run is gone: nothing was written.

local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then
  return -1
end
-- Writes.
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if #ARGV > 3 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 4))
end
return 1
