"""The subcommands of ``slmperf``, one file each: ``add_parser(subparsers)`` and ``run(args) -> int``."""
