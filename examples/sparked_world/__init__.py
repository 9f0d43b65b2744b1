"""Four small apps that share one balance of credits per user: chat, canvas, studio, train."""
