-- refund: Gives back credits of a charge or capture, 0 for all that is left of it, to the lots they came from.
-- applied: account, entry, totals `refunded`, receipt, and the charge's receipt, which counts what was refunded of it.
-- charge_not_found: receipt.
-- refund_exceeds_charge: receipt.
-- balance_too_large: receipt.

local REFUNDABLE = { charge = true, post_charge = true, capture = true }

-- Which parts come back: the last that were taken first, so that what is left is what a smaller charge would have taken.
local function parts_to_return(intent, charge, refunded, amount)
  local all = read_parts(charge.details.lots, charge.amount)
  local still_taken = split_parts(all, charge.amount - refunded)
  local _, returned = split_parts(still_taken, charge.amount - refunded - amount)
  for _, part in ipairs(returned) do
    local priority, expires = terms_of(part.name)
    if intent.keep_expired and expires <= now then part.name = priority end
  end
  return returned
end

kinds.refund = {
  stream = 'intents',
  amount_min = 0,
  frozen = true,
  complaint = function(intent)
    if not is_flag(intent.keep_expired) then return 'keep_expired is malformed' end
    return target_complaint(intent)
  end,
  refusal = function(intent, account)
    local stored = call('GET', receipt_key(intent.user, intent.of_origin, intent.of))
    local charge = stored and read_receipt(stored)
    if not charge or charge.status ~= 'applied' or not REFUNDABLE[charge.kind] then return 'charge_not_found' end
    local left = charge.amount - (charge.details.refunded or 0)
    local amount = intent.amount == '0' and left or tonumber(intent.amount)
    if left == 0 or amount > left then return 'refund_exceeds_charge', { refundable = left } end
    if account.posted + amount > AMOUNT_MAX then return 'balance_too_large' end
    intent.charge, intent.amount = charge, whole(amount)
  end,
  effect = function(intent, account)
    local charge, amount = intent.charge, tonumber(intent.amount)
    local refunded = charge.details.refunded or 0
    intent.action = charge.action
    local parts = parts_to_return(intent, charge, refunded, amount)
    if account.lots or parts_text(parts) then
      give_back(account, parts, 0)
    end
    local of = intent.of_origin .. ':' .. intent.of
    enter(account, 'refund', 'refunded', intent.amount, intent, { of = of })
    charge.details.refunded = refunded + amount
    call('SET', receipt_key(intent.user, intent.of_origin, intent.of), receipt_json('applied',
      { kind = charge.kind, amount = whole(charge.amount), action = charge.action }, whole(charge.posted),
      whole(charge.held), whole(charge.seq), whole(charge.at), charge.details))
    -- An excess was counted when it was captured, and comes back first, for it was drawn last.
    local excess = min(amount, max(0, (charge.details.excess or 0) - refunded))
    local counted_as = charge.details.counted_as or charge.action
    count_spent(account, counted_as, -excess, charge.at)
    count_spent(account, counted_as, excess - amount, charge.details.counted_at or charge.at)
  end,
}
