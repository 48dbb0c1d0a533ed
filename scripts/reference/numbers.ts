import { EXIT_OF_SIGNAL } from '../../src/cli/interrupts.ts'
import { FAILURES, type FailureRow } from '../../src/domain/failures.ts'
import { LIMITS } from '../../src/domain/limits.ts'
import { type MetricRow, METRICS } from '../../src/telemetry/metric-names.ts'
import { bytesText, code, durationText, page, table } from './text.ts'

/** The page of exit codes. */
export function exitPage(): string {
  const codes = new Map<number, string[]>()
  for (const [name, row] of Object.entries<FailureRow>(FAILURES))
    codes.set(row.exit, [...(codes.get(row.exit) ?? []), name])
  const ends = new Map([
    [0, 'Done. Of a command that follows a run: the run has succeeded.'],
    [EXIT_OF_SIGNAL.SIGINT, 'Left by a second interrupt (SIGINT).'],
    [EXIT_OF_SIGNAL.SIGTERM, 'Left by a second SIGTERM.'],
  ])
  const all = [...new Set([...codes.keys(), ...ends.keys()])].sort((a, b) => a - b)
  return page(
    'Exit codes',
    'the catalogue of failures',
    "A command that fails ends with the exit code of its failure, one that follows a run with that of the run's failure. `orrery doctor` has its own: 0 all is well, 1 something is to be looked at, 2",
    'something is broken. With `--json` the failure is printed with its code.',
    '',
    ...table(
      ['exit', 'when'],
      all.map((exit) => [
        String(exit),
        ends.get(exit) ??
          (codes.get(exit) ?? []).map((name) => `[\`${name}\`](../failures.md#${name.replaceAll('.', '')})`).join(', '),
      ]),
    ),
  )
}

/** The page of metrics. */
export function metricPage(): string {
  const labelText = ({ labels = {} }: MetricRow) =>
    Object.entries(labels)
      .map(([name, values]) => `${name}: ${typeof values === 'string' ? `all ${values}` : values.join(' ')}`)
      .join('; ')
  return page(
    'Metrics',
    'the table of metrics',
    'Where they are found, and what to alert on: [observability.md](../guides/observability.md). Every series is there from the start at zero, and labels have a fixed set of',
    'values. `of` is the process that has it; a server with a worker inside has all.',
    '',
    ...table(
      ['metric', 'type', 'of', 'labels', 'meaning'],
      Object.entries<MetricRow>(METRICS).map(([name, row]) => [code(name), row.type, row.of, labelText(row), row.help]),
    ),
  )
}

/** What stands above a member of the table of limits, in its source; the members of one comment share it. */
export function limitComments(source: string): Map<string, string> {
  const comments = new Map<string, string>()
  let comment = ''
  for (const line of source.split('\n')) {
    const said = /^ {2}\/\*\* (.+) \*\/$/.exec(line)?.[1]
    if (said !== undefined) comment = said
    const name = /^ {2}(\w+): /.exec(line)?.[1]
    if (name !== undefined) comments.set(name, comment)
  }
  return comments
}

/** The page of limits. */
export function limitPage(source: string): string {
  const comments = limitComments(source)
  return page(
    'Limits',
    'the table of limits',
    'Every bound of the product. What goes beyond one is refused by a failure that names it; nothing is cut off silently.',
    '',
    ...table(
      ['limit', 'value', 'what it bounds'],
      Object.entries(LIMITS).map(([name, value]) => [code(name), limitText(name, value), comments.get(name) ?? '']),
    ),
  )
}

function limitText(name: string, value: number | { perSecond: number; burst: number }): string {
  if (typeof value === 'object')
    return `${value.perSecond.toLocaleString('en')} a second, ${value.burst.toLocaleString('en')} at once`
  if (/bytes$/i.test(name)) return bytesText(value)
  if (/ms$/i.test(name)) return durationText(value)
  if (/seconds$/i.test(name)) return durationText(value * 1000)
  return /share$/i.test(name) ? `${value * 100} %` : value.toLocaleString('en')
}
