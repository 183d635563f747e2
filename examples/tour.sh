#!/usr/bin/env bash
# A tour of gnomon on real input that every machine has: Python's own standard library.
# Each step is a command you can type yourself; repeating the script continues where it stopped.
set -euo pipefail

TOUR=${TOUR:-demo}          # where the tour's runs go
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

step "1. Which methods are there, and is everything installed?"
gnomon list
gnomon doctor

step "2. Take 1,500 functions of the standard library apart into lint-clean edits"
gnomon lintseq generate stdlib:functions --min-lines 3 --max-lines 8 --limit 1500 \
    --linter pyflakes -s 2 --workers 2 --out "$TOUR/edits"

step "3. Audit them: does every sequence give its function back, is every state clean?"
gnomon lintseq check "$TOUR/edits" --workers 2 --out "$TOUR/audit"

step "4. Make a small model from nothing, then train it twice: on edits and on whole programs"
python examples/tour_model.py "$TOUR/edits" "$TOUR/untrained"
for mode in editseq program; do
    gnomon lintseq train "$TOUR/edits" --model "$TOUR/untrained" --mode $mode --passes 4 \
        --train.lr 2e-3 --train.batch-size 16 --train.max-length 384 --train.reduction token_mean \
        --train.warmup-ratio 0.02 --out "$TOUR/trained-$mode"
done

step "5. Let both write"
for mode in editseq program; do
    gnomon lintseq sample examples/tour_prompts.jsonl --model "$TOUR/trained-$mode" --mode $mode \
        --gen.n 5 --gen.max-new-tokens 200 --out "$TOUR/samples-$mode"
done

step "6. All of it on one page"
python examples/tour_page.py "$TOUR"
gnomon view "$TOUR"
