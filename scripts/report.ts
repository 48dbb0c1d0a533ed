import type { StageResult } from './stage.ts'

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

export const isGood = (result: StageResult): boolean => result.failed === 0

/** One line a stage, with what it complained of below. */
export function renderResult(result: StageResult): string {
  const counts = [`${result.passed} passed`]
  if (result.failed > 0) counts.push(`${result.failed} failed`)
  if (result.skipped > 0) counts.push(`${result.skipped} skipped`)
  const head = `${isGood(result) ? 'ok  ' : 'FAIL'}  ${result.name.padEnd(26)} ${counts.join(', ')}  (${seconds(result.durationMs)})`
  return [
    head,
    ...result.complaints.map((c) => `      ${c}`),
    ...result.retried.map((t) => `      passed at its second try: ${t}`),
    ...result.skippedNames.map((n) => `      skipped: ${n}`),
  ].join('\n')
}

/** The closing line. It is alone on its line, so that a program can read it. */
export function renderTotal(results: readonly StageResult[]): string {
  const sum = (pick: (r: StageResult) => number) => results.reduce((total, r) => total + pick(r), 0)
  return `${sum((r) => r.passed)} passed, ${sum((r) => r.failed)} failed, ${sum((r) => r.skipped)} skipped`
}
