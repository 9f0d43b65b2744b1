-- The outbox: events, written in the same call as the effect that they tell of, for jobs to deliver.

-- Older events go first where nobody takes them; about 20 MB a shard.
local OUTBOX_MAX = 100000

-- `data` is JSON.
local function tell(account, type, data)
  call('XADD', prefix .. 'outbox', 'MAXLEN', '~', OUTBOX_MAX, '*', 'v', 1, 'type', type, 'user', account.user,
    'seq', account.seq_text, 'at', now_text, 'data', data)
end

-- Tells which thresholds the account has fallen below since it had `before` available.
local function tell_crossed(account, before)
  local after = account.posted - account.held
  if after >= before then
    return
  end
  for text in gmatch(account.thresholds or '', '%d+') do
    local threshold = tonumber(text)
    if before >= threshold and after < threshold then
      tell(account, 'threshold_crossed', '{"threshold":' .. whole(threshold) .. ',"available":' .. whole(after) .. '}')
    end
  end
end
