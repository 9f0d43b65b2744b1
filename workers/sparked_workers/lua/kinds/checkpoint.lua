-- checkpoint: Remembers the verified sums up to an entry, so that the next verification starts there.
-- applied: checkpoint. It leaves neither entry nor receipt, and an older one changes nothing.

kinds.checkpoint = {
  stream = 'control',
  amount_min = 0,
  frozen = true,
  closed = true,
  leaves_no_receipt = true,
  complaint = sums_complaint,
  refusal = function() end,
  effect = function(intent, account)
    local key = prefix .. 'checkpoint:' .. intent.user
    local seq = tonumber(match(intent.id, '%d+$'))
    local known = tonumber(match(call('HGET', key, 'id') or '', '%d+$')) or 0
    -- One that claims more than there is was damaged, and so may be one of the same entry.
    if (seq >= known or known > account.seq) and seq <= account.seq then
      call('HSET', key, 'id', intent.id, 'posted', intent.posted, 'held', intent.held, 'lots', intent.lots,
        'state', intent.state)
    end
  end,
}
