import { nearest } from '../../base/index.ts'
import { FAILURES, type FailureCode, type FailureRow, isFailureCode } from '../../domain/failures.ts'
import type { Output } from '../output.ts'
import { type Line, span, wrap } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'

// The keys of the catalogue are its codes; Object.keys only forgets that.
const CODES = Object.keys(FAILURES) as FailureCode[]

const RETRY: Record<FailureRow['retry'], string> = {
  never: 'the same thing will not succeed when tried again',
  later: 'the same thing may succeed later without a change',
  'after-change': 'after something was changed',
}
const FAULT: Record<FailureRow['fault'], string> = {
  caller: 'whoever made the request',
  operator: 'whoever runs the installation',
  author: 'the author of the workflow',
  product: 'Orrery itself',
}

/** `orrery explain [CODE]`: one entry of the failure catalogue, those of a group such as `step`, or all. */
export function explain(output: Output, code: string | undefined): number {
  if (code === undefined) return listCodes(output, CODES)
  if (!isFailureCode(code)) {
    const group = CODES.filter((candidate) => candidate.startsWith(`${code.replace(/\.$/, '')}.`))
    if (group.length > 0) return listCodes(output, group)
    const near = nearest(code, CODES)
    throw usageFailure(
      `there is no failure code ${JSON.stringify(code)}`,
      `${near ? `Did you mean ${near}? ` : ''}orrery explain lists all codes.`,
    )
  }
  const row: FailureRow = FAILURES[code]
  if (output.isData) {
    output.printData({ code, ...row })
    return 0
  }
  output.print([span(code, 'bold')], [span(`  ${row.title}`)], [])
  const facts: [string, string][] = [
    ['what to do', row.advice],
    ['whose move', FAULT[row.fault]],
    ['again', RETRY[row.retry]],
    ['exit code', String(row.exit)],
    ['HTTP', String(row.status)],
  ]
  for (const [label, text] of facts) output.print(...factLines(label, text, output.width))
  return 0
}

function factLines(label: string, text: string, width: number): Line[] {
  return wrap(text, Math.max(20, width - 14)).map((line, i) => [
    span(`  ${(i === 0 ? label : '').padEnd(12)}`, 'dim'),
    span(line),
  ])
}

function listCodes(output: Output, codes: FailureCode[]): number {
  if (output.isData) {
    output.printData({ codes: codes.map((code) => ({ code, ...FAILURES[code] })) })
    return 0
  }
  const rows = codes.map((code) => {
    const { title, exit, status, retry }: FailureRow = FAILURES[code]
    return [{ text: code }, { text: title }, { text: String(exit) }, { text: String(status) }, { text: RETRY[retry] }]
  })
  const columns = [
    { title: 'CODE', isName: true },
    { title: 'WHAT HAPPENED' },
    ...['EXIT', 'HTTP', 'AGAIN'].map((title) => ({ title, wide: true })),
  ]
  output.printTable(columns, rows)
  return 0
}
