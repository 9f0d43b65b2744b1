-- capture: Takes credits of a hold, 0 for all of it, releases the rest, and ends it.
-- applied: account, entry, hold, totals `charged`, receipt.
-- hold_not_found: receipt.
-- hold_settled: receipt.
-- capture_exceeds_hold: receipt; the hold stays open.
-- insufficient_credits: receipt; the hold stays open.

-- Shared with all that name an earlier intent.
local function target_complaint(intent)
  if not is_key(intent.of) then return 'of is malformed' end
  if not is_name(intent.of_origin, 512) then return 'of_origin is malformed' end
  -- Kind, amount and action leave out the target; and those of the receipt are what it turned out to be.
  if not intent.terms then return 'terms are missing' end
end

-- Shared with `void`. The hold is kept with the intent, for its effect.
local function open_hold_refusal(intent, account)
  local hold = read_hold(account, intent.of_origin .. ':' .. intent.of)
  intent.hold = hold
  if not hold then return 'hold_not_found' end
  if hold.state ~= 'open' then
    return 'hold_settled', { how = hold.state, settled_at = tonumber(hold.settled_at) }
  end
end

kinds.capture = {
  stream = 'intents',
  amount_min = 0,
  frozen = true,
  complaint = function(intent)
    if not is_flag(intent.excess) then return 'excess is malformed' end
    return target_complaint(intent)
  end,
  refusal = function(intent, account)
    local status, details = open_hold_refusal(intent, account)
    if status then return status, details end
    local excess = tonumber(intent.amount) - intent.hold.amount
    if excess > 0 and not intent.excess then return 'capture_exceeds_hold', { hold = intent.hold.amount } end
    if excess > 0 and excess > account.posted - account.held then
      return 'insufficient_credits', { required = excess }
    end
  end,
  effect = function(intent, account)
    local hold = intent.hold
    local amount = intent.amount == '0' and hold.amount or tonumber(intent.amount)
    local excess = max(0, amount - hold.amount)
    local taken, released = split_parts(hold.parts, amount)
    settle_hold(account, hold, 'captured', taken, released, intent.origin .. ':' .. intent.key)
    local drawn = excess > 0 and (draw(account, excess) or { { name = 'paid', amount = excess } }) or {}
    for _, part in ipairs(drawn) do
      local last = taken[#taken]
      if last.name == part.name then last.amount = last.amount + part.amount else table.insert(taken, part) end
    end
    local lots = parts_text(taken)
    call('HSET', hold_key(account, hold.name), 'captured', whole(amount), 'captured_lots', lots or '')
    -- What it turned out to be for may be stated; the limits have counted it as what it was held for.
    intent.amount, intent.action = whole(amount), intent.action == 'unstated' and hold.action or intent.action
    enter(account, 'capture', 'charged', '-' .. intent.amount, intent, { hold = -hold.amount, of = hold.name })
    count_spent(account, hold.action, min(0, amount - hold.amount), hold.at)
    count_spent(account, hold.action, excess, now)
    return { lots = lots, counted_at = hold.at, counted_as = intent.action ~= hold.action and hold.action or nil,
      excess = excess > 0 and excess or nil }
  end,
}
