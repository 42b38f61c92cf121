"""Class weights (`balance`, Eq. 3 to 5), the loss (`dice`, Eq. 2 and 6), organs that are not labelled (`marginal`).

`dice_of_logits` has the sums of Eq. 2 in little memory and time; what they are is said in `dice`.

Another loss is a module here with the methods and `class_weights` of `dice.WeightedDiceLoss`, a field of
`core.config.LossConfig` that names it, and a branch in `dice.training_loss`, the one place where a training's loss is
chosen. The shares of the gradient (`engine.diagnostics`) are in closed form for Dice and cross-entropy: another needs
its own.
"""
