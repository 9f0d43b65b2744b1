-- hold: Sets credits aside until they are captured or voided, or until the hold lapses.
-- applied: account, entry, hold, receipt.
-- insufficient_credits: receipt.
-- too_many_holds: receipt.

kinds.hold = {
  stream = 'intents',
  amount_min = 1,
  complaint = function(intent)
    if not is_digits(intent.expires_in, 10) or tonumber(intent.expires_in) < 1000
      or tonumber(intent.expires_in) > 30 * DAY then
      return 'expires_in is malformed'
    end
    -- Kind, amount and action leave out how long it lasts.
    if not intent.terms then return 'terms are missing' end
    return price_complaint(intent)
  end,
  refusal = function(intent, account)
    local amount = tonumber(intent.amount)
    if amount > account.posted - account.held then return 'insufficient_credits' end
    if account.held > 0 and call('ZCARD', prefix .. 'holds:' .. account.user) >= HOLDS_MAX then
      return 'too_many_holds', { most = HOLDS_MAX }
    end
    if account.limits then return limit_refusal(account, intent.action, amount) end
  end,
  effect = function(intent, account)
    local amount = tonumber(intent.amount)
    local expires_at = now + tonumber(intent.expires_in)
    local name = intent.origin .. ':' .. intent.key
    local parts = parts_to_draw(account, amount)
    for _, part in ipairs(parts or {}) do
      move(account, part.name, -part.amount, part.amount)
    end
    enter(account, 'hold', nil, '0', intent, { hold = amount, price = intent.price })
    call('HSET', hold_key(account, name), 'v', 1, 'state', 'open', 'amount', intent.amount,
      'action', intent.action, 'at', now_text, 'expires_at', whole(expires_at), 'seq', account.seq_text,
      'lots', parts_text(parts) or '', 'metadata', intent.metadata)
    call('ZADD', prefix .. 'holds:' .. account.user, expires_at, name)
    count_spent(account, intent.action, amount, now)
    account.more = true
    account.lots = account.lots or {}
    return { lots = parts_text(parts), expires_at = expires_at }
  end,
}
