-- lapse: Ends holds and lots whose time has come, of accounts that nobody asks anything of.
-- KEYS[1]  the shard's meta hash, `<namespace>:{<shard>}:meta`
-- ARGV[1]  epoch the store must have
-- ARGV[2]  fence of the calling worker
-- ARGV[3]  accounts to look at, 1 to 128; 0: pass over the first one, on which this script fails
-- ARGV[4]  ms added to the store's clock; 0 but in tests
-- Returns {ms until something is due or -1, outcomes}; where one account had much to end, the others are left for the next call.
-- Errors FOREIGN, SUPERSEDED: nothing was written.

local position, not_owner = check_owner(ARGV[1], ARGV[2])
if not position then
  return not_owner
end
read_clock(ARGV[4])

local most = tonumber(ARGV[3])
local due = call('ZRANGE', prefix .. 'due', '-inf', now_text, 'BYSCORE', 'LIMIT', 0, max(1, most))
for _, user in ipairs(due) do
  if ended >= ENDED_MAX then break end
  local account = most > 0 and read_account(user)
  -- Writes.
  if account and account.due then
    run_timers(account)
    publish(user, '[1,"applied","lapse",0,"lapse",' .. account.posted_text .. ',' .. account.held_text .. ','
      .. account.seq_text .. ',' .. now_text .. ']')
  end
  -- Even if nothing was due: a list that is wrong about an account would be met again at once, for ever.
  if account and account.due then
    call('ZADD', prefix .. 'due', account.due, user)
  else
    call('ZREM', prefix .. 'due', user)
  end
end
return { ms_until_due(), table.concat(outcomes, ',') }
