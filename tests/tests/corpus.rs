//! Runs the fuzz targets again on all inputs that the fuzzer found worth keeping, and on the golden bytes.

use std::{fs, path::Path};

use holdfast_tests::fuzz_targets::{TARGETS, run};

/// How many inputs there are at least: fewer means that they were not found.
const FEWEST: usize = 10;

#[test]
fn the_corpus_of_each_target_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("corpus");
    for (name, _) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus.join(name)).expect("each target has a corpus") {
            let path = entry.expect("the corpus can be read").path();
            println!("{}", path.display());
            run(name, &fs::read(&path).expect("the input can be read"));
            count += 1;
        }
        assert!(count >= FEWEST, "{name}: {count} inputs are too few");
    }
}
