"""Class weights (`balance`, Eq. 3 to 5), the loss (`dice`, Eq. 2 and 6), organs that are not labelled (`marginal`).

Another loss is a module here with a `per_class(logits, labels, labelled)` of its own, a field of
`core.config.LossConfig` that names it, and a branch in `dice.training_loss`, the one place where a loss is chosen.
"""
