// Writes docs/failures.md from the failure catalogue. `--check` writes nothing and fails when the file is stale.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type FailureRow, FAILURES } from '../src/domain/failures.ts'

const TARGET = join(import.meta.dirname, '..', 'docs', 'failures.md')

const RETRY: Record<FailureRow['retry'], string> = {
  never: 'no: the same thing fails again',
  later: 'yes, by itself after a while',
  'after-change': 'after something was changed',
}

const FAULT: Record<FailureRow['fault'], string> = {
  caller: 'who made the request',
  operator: 'who runs Orrery',
  author: 'who wrote the workflow',
  product: 'Orrery: please report it',
}

function render(rows: Record<string, FailureRow>): string {
  const groups = new Map<string, string[]>()
  for (const code of Object.keys(rows)) {
    const group = code.split('.')[0] ?? code
    groups.set(group, [...(groups.get(group) ?? []), code])
  }
  const section = (code: string): string => {
    const row = rows[code]
    if (!row) return ''
    return [
      `### ${code}`,
      '',
      `${row.title}. ${row.advice}`,
      '',
      `| whose move | try again | HTTP status | exit code |`,
      `| --- | --- | --- | --- |`,
      `| ${FAULT[row.fault]} | ${RETRY[row.retry]} | ${row.status} | ${row.exit} |`,
      '',
    ].join('\n')
  }
  const parts = [...groups].map(([group, codes]) => [`## ${group}`, '', ...codes.map(section)].join('\n'))
  return [
    '# Failures',
    '',
    'Every failure that Orrery reports has one of these codes. `orrery explain CODE` shows the same at the terminal.',
    'This page is made from `src/domain/failures.ts` by `npm run failures`; do not edit it.',
    '',
    ...parts,
  ].join('\n')
}

const wanted = render(FAILURES)
if (process.argv.includes('--check')) {
  let present = ''
  try {
    present = readFileSync(TARGET, 'utf8')
  } catch {
    // Absent is as stale as old.
  }
  if (present !== wanted) {
    process.stderr.write('docs/failures.md is stale: run npm run failures.\n')
    process.exitCode = 1
  }
} else {
  writeFileSync(TARGET, wanted)
}
