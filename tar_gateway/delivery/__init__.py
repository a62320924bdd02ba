"""From a bundle to its bytes: plan, select, fetch. It knows no header and no client."""
