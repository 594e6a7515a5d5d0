"""Detection: rules over the sealed events, and the alerts they raise.

`rules` says what there is to find, `judging` how that is found among the events of one key,
`engine` runs all rules over events in the log's order; these know no database. `detecting` feeds
the engine from the log, `trying` does the same without writing, `versions` keeps the rules'
versions.
"""
