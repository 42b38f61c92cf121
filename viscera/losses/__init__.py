"""Eq. 2 to 6 of the paper: class weights (`balance`) and the weighted soft Dice loss (`dice`, `marginal`)."""
