"""K responses per prompt and pool model, from whatever engine the model runs on."""
