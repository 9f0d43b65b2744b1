-- open: Opens an account with some credits, which may be none.
-- applied: account, entry, totals `granted`, event `account_opened`, receipt.
-- account_exists: receipt.

kinds.open = {
  stream = 'control',
  amount_min = 0,
  opens = true,
  frozen = true,
  refusal = function(intent, account)
    -- Entries without an account are damage, which a rebuild repairs; opened anew, it would be granted twice.
    if account or call('EXISTS', prefix .. 'entries:' .. intent.user) == 1 then return 'account_exists' end
  end,
  effect = function(intent)
    local account = { user = intent.user, posted = 0, held = 0, seq = 0, at = 0, held_text = '0', debt = 0 }
    call('HSET', prefix .. 'account:' .. intent.user, 'v', 1, 'posted', 0, 'held', 0, 'seq', 0, 'state', 'open')
    call('ZADD', prefix .. 'accounts', 0, intent.user)
    enter(account, 'open', 'granted', intent.amount, intent)
    tell(account, 'account_opened', '{"initial":' .. intent.amount .. '}')
    return nil, account
  end,
}
