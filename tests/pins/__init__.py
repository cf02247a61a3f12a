"""Pins: what version 0.1.0 did as its users see it, recorded, so that the house can be moved around behind it.

They know command lines, files, keys, columns and printed lines, and no module inside. ``records/`` holds what was seen; a test never
writes there unless the variable ``RECORD_PINS`` names its records: ``RECORD_PINS="options refusals.run" pytest tests/pins``. What
``records/0.1.0/`` holds is how that version wrote checkpoints, work folders and results: it stays as it is, whatever later versions write.

    test_parsers.py        options, defaults, choices, types of every entry script
    test_options.py        what run.py makes of command lines; which options may change between a run and its continuation
    test_refusals.py       exit code and message of every refused command line of run.py, and of the other scripts
    test_dry_run.py        the lines that a dry run of every experiment prints
    test_work_folders.py   a work folder of version 0.1.0 is not made anew; its scores and its page are read
    test_checkpoints.py    keys of the checkpoints; those of version 0.1.0 are tested, resumed, started from, labelled and selected with
    test_columns.py        columns of the results, the manifests and the confusion matrix

Other tests are pins too, and stay:

    golden parity          tests/test_training_step.py, tests/test_segmentation_module.py, tests/test_tasks.py, tests/utils/test_losses.py,
                           tests/utils/test_metrics.py, tests/utils/test_schedule.py, tests/modules/test_affinity.py,
                           tests/captions/test_filters.py, tests/captions/test_similarity.py (all that are marked ``golden``)
    resume                 tests/test_resume.py; tests/test_run.py (what a run costs, going on with other settings);
                           tests/test_generate_label.py and tests/web/test_discriminator.py (stopped, and gone on with)
    two ranks are one      tests/test_ddp.py; tests/modules/test_norm.py; tests/test_generate_label.py (two ranks label what one does)
    nothing runs twice     tests/experiments/test_runner.py
"""
