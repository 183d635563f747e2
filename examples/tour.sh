#!/usr/bin/env bash
# A tour of gnomon on real input that every machine has: Python's own standard library and its documentation.
# Each step is a command you can type yourself; repeating the script continues where it stopped.
set -euo pipefail

TOUR=${TOUR:-demo}          # where the tour's runs go
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

step "1. Which methods are there, and is everything installed?"
gnomon list
gnomon doctor

step "2. Teach a light filter to keep documentation about files, from 600 verdicts"
# The judge is a rule, so that the tour needs no network; examples/tour_filter.yaml says the same in words for a language model.
# Snippets of 80 tokens, six rounds of 100 labels, words weighed by their rarity in 2,000 unlabelled snippets.
gnomon sieve fit stdlib:docs --filter examples/tour_filter.yaml --judge rule:examples/tour_judge.py:about_files \
    --model hashed-linear --snippet-tokens 80 --student.idf --selection.adapt 2000 \
    --selection.budget 600 --selection.batch 100 --test 800 --out "$TOUR/filter"

step "3. Filter all of the documentation with it, and compare it with the judge on documents set aside"
gnomon sieve apply stdlib:docs --model "$TOUR/filter" --workers 2 --out "$TOUR/filtered"
gnomon sieve eval "$TOUR/filter/test.jsonl" --model "$TOUR/filter" --out "$TOUR/agreement"

step "4. Take 1,000 functions of the standard library apart into lint-clean edits"
gnomon lintseq generate stdlib:functions --min-lines 3 --max-lines 8 --limit 1000 \
    --linter pyflakes -s 2 --workers 2 --out "$TOUR/edits"

step "5. Audit them: does every sequence give its function back, is every state clean?"
gnomon lintseq check "$TOUR/edits" --workers 2 --out "$TOUR/audit"

step "6. Make a small model from nothing, then train it twice: on edits and on whole programs"
python examples/tour_model.py "$TOUR/edits" "$TOUR/untrained"
for mode in editseq program; do
    gnomon lintseq train "$TOUR/edits" --model "$TOUR/untrained" --mode $mode --passes 3 \
        --train.lr 2e-3 --train.batch-size 16 --train.max-length 384 --train.reduction token_mean \
        --train.warmup-ratio 0.02 --out "$TOUR/trained-$mode"
done

step "7. Let both write"
for mode in editseq program; do
    gnomon lintseq sample examples/tour_prompts.jsonl --model "$TOUR/trained-$mode" --mode $mode \
        --gen.n 5 --gen.max-new-tokens 200 --out "$TOUR/samples-$mode"
done

step "8. Does the trained model know when it is wrong? Ask it what 400 functions return, and read the answer's hidden state"
python examples/tour_questions.py "$TOUR/edits" "$TOUR/questions.jsonl"
gnomon truth-probes train "$TOUR/questions.jsonl" --model "$TOUR/trained-program" --template none --max-new-tokens 6 \
    --extract 'regex:\w+' --no-ask-p-true --limit 400 --batch-size 128 --out "$TOUR/errors"

step "9. The same model as a Markov chain: where does it end when it may write brackets and names only?"
gnomon markov chain --model "$TOUR/trained-program" --tokens "self,.,(,),_,[,],=" --window 4 --out "$TOUR/chain"

step "10. What does a vision-language model see in each patch of a photograph? A demonstration: it has learned for seconds"
gnomon vl-lens mini --scale smoke --seeds 1 --out "$TOUR/eyes"
photo=$(python -c 'from importlib.resources import files; print(files("sklearn.datasets.images") / "china.jpg")')
gnomon vl-lens lens "$photo" --model "$TOUR/eyes" --prompt caption: --words dog laptop --out "$TOUR/seen"

step "11. Teach the model the documentation that the filter kept, beside its code: what does it learn, what does it forget?"
python examples/tour_texts.py "$TOUR"
gnomon neutral-residues train --model "$TOUR/trained-program" \
    --new "$TOUR/texts/documentation.jsonl" --original "$TOUR/texts/code.jsonl" --alpha 1 \
    --train.lr 4e-3 --train.epochs 20 --train.max-steps 40 --train.batch-size 16 --train.max-length 128 --out "$TOUR/extended"

step "12. Take methods out of the model, and leave functions in"
# By a rival: ELM itself asks the model how a novice would go on, and one this small cannot tell a novice from an expert.
gnomon elm baseline --method npo --model "$TOUR/trained-program" \
    --forget "$TOUR/texts/methods.jsonl" --retain "$TOUR/texts/functions.jsonl" --max-chars 200 \
    --train.lr 3e-4 --train.max-steps 12 --train.batch-size 16 --out "$TOUR/without-methods"
gnomon elm eval --before "$TOUR/trained-program" --after "$TOUR/without-methods" --concept self \
    --retain "$TOUR/texts/functions.jsonl" --generic "$TOUR/texts/methods.jsonl" \
    --prompts "$TOUR/texts/methods.jsonl" --prompt-chars 16 --max-new-tokens 24 --limit 60 --out "$TOUR/erasure"

step "13. Steer summaries towards what a reader cares about, here files: which phrases do such summaries speak of?"
# Eight entries of the documentation at a time, two or three of which the filter kept. The summariser is a rule too: tour_writer.py.
python examples/tour_encoder.py "$TOUR/texts/digests-to-learn.jsonl" "$TOUR/encoder"
gnomon sigext train "$TOUR/texts/digests-to-learn.jsonl" --model "$TOUR/encoder" --n-train 480 --n-validation 100 -k 6 \
    --train.lr 2e-3 --train.batch-size 8 --train.epochs 2 --train.reduction token_mean --train.max-length 512 \
    --train.warmup-steps 10 --out "$TOUR/extractor"
gnomon sigext summarize "$TOUR/texts/digests.jsonl" --extractor "$TOUR/extractor" --template examples/tour_template.txt \
    --writer script:examples/tour_writer.py:write --arms none random tf-idf sigext oracle --out "$TOUR/steered"

step "14. Find a better prompt for the summariser, by critiques of what it wrote and with the phrases at hand"
gnomon sigext score "$TOUR/extractor" "$TOUR/texts/digests.jsonl" --out "$TOUR/scored"
cat "$TOUR"/scored/scored/part-*.jsonl > "$TOUR/texts/phrased.jsonl"
head -n 50 "$TOUR/texts/phrased.jsonl" > "$TOUR/texts/train.jsonl"
sed -n 51,100p "$TOUR/texts/phrased.jsonl" > "$TOUR/texts/dev.jsonl"
tail -n +101 "$TOUR/texts/phrased.jsonl" > "$TOUR/texts/test.jsonl"
gnomon crispo optimize "$TOUR/texts/train.jsonl" --dev "$TOUR/texts/dev.jsonl" --test "$TOUR/texts/test.jsonl" \
    --input-column document --output-column summary \
    --prompt examples/tour_prompt.txt --more-prompts examples/tour_prompt_phrases.txt \
    --task script:examples/tour_writer.py:write --critic script:examples/tour_writer.py:criticise \
    --optimizer script:examples/tour_writer.py:propose --steps 5 --dev-every 1 --out "$TOUR/prompt"

step "15. Audit two judges of such summaries: are they swayed by what must not matter?"
python examples/tour_pairs.py "$TOUR"
gnomon calm perturb "$TOUR/texts/pairs.jsonl" --out "$TOUR/rewritten"
gnomon calm audit "$TOUR/rewritten" --kind function --out "$TOUR/judges" \
    --judge examples/tour_judge.py:counts_files examples/tour_judge.py:weighs_files

step "16. Documents with tables and pictures: which one is it, which section, and what in it says so?"
python examples/tour_pages.py "$TOUR/pages"
gnomon interleaved-retrieval import "$TOUR/pages" --out "$TOUR/documents"
gnomon interleaved-retrieval index "$TOUR/documents" --model embedded:minilm --out "$TOUR/index"
gnomon interleaved-retrieval search "$TOUR/index" --model embedded:minilm --text "widths of petals" "a temple with a curved roof" \
    --source "$TOUR/documents" --explain 2 -k 3 --out "$TOUR/answers"

step "17. Does the model know which pieces of documentation belong together? What may a retriever without labels be trained by?"
gnomon uncertainty-rag score stdlib:docs --limit 150 --model "$TOUR/trained-program" --cut.size 40 \
    --pool.n-anchors 24 --pool.m 8 --pool.n-random 4 --out "$TOUR/certainty"
gnomon uncertainty-rag explain --model "$TOUR/trained-program" --table "$TOUR/certainty" --out "$TOUR/explained"

step "18. Which words should the program's model write? A reward at the end of each answer, and credit by macro actions"
gnomon ma-rlhf segment "def area(width, height):  # of a field
    return width * height" --model "$TOUR/trained-program" --rules fixed chunks code --out "$TOUR/segments"
python -c 'import json; [print(json.dumps({"prompt": f"def {name}(", "id": name})) for name in ("area", "count", "join", "mean")]' \
    > "$TOUR/heads.jsonl"
gnomon ma-rlhf train "$TOUR/heads.jsonl" --model "$TOUR/trained-program" --reward 'regex:return' --ppo.gen.max-new-tokens 24 \
    --train.batch-size 8 --train.max-steps 3 --train.epochs 6 --train.warmup-steps 0 --train.max-length 64 --out "$TOUR/rewarded"

step "19. When is one more sample worth it? The model learns to say whether it would do better if it started over"
head -n 120 "$TOUR/questions.jsonl" > "$TOUR/texts/asked.jsonl"
tail -n +401 "$TOUR/questions.jsonl" > "$TOUR/texts/unasked.jsonl"
gnomon adaptive-sampling build "$TOUR/texts/asked.jsonl" --model "$TOUR/trained-program" --reward contains --k 4 \
    --anneal constant --gen.max-new-tokens 6 --out "$TOUR/doubts"
gnomon adaptive-sampling train "$TOUR/doubts" --model "$TOUR/trained-program" --train.lora-rank None \
    --train.epochs 1 --train.lr 3e-3 --train.batch-size 16 --out "$TOUR/doubting"
gnomon adaptive-sampling eval "$TOUR/doubting" "$TOUR/texts/unasked.jsonl" --reward contains --n-max 6 \
    --anneal constant --gen.max-new-tokens 6 --out "$TOUR/worth-it"

step "20. All of it on one page"
python examples/tour_page.py "$TOUR"
gnomon view "$TOUR"
