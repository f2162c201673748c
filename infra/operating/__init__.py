"""What an operator looks at and is woken by: alert rules, a dashboard, objectives, and what to do then."""
