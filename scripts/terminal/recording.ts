import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a terminal was sent, and when. */
export interface Recording {
  /** As it was typed. */
  command: string
  columns: number
  rows: number
  /** Milliseconds since the chunk before, and the chunk. */
  output: [afterMs: number, text: string][]
}

/** Runs a shell line in a pseudo-terminal, by script(1) of util-linux, and keeps what it writes there. Rejects when it fails. */
export async function record(line: string, size: { columns: number; rows: number }, cwd: string): Promise<Recording> {
  const folder = mkdtempSync(join(tmpdir(), 'orrery-recording-'))
  const files = { out: join(folder, 'out'), timing: join(folder, 'timing') }
  try {
    const sized = `stty cols ${size.columns} rows ${size.rows}; ${line}`
    const args = ['--quiet', '--flush', '--return', '--log-out', files.out, '--log-timing', files.timing, '-c', sized]
    const child = spawn('script', args, {
      cwd,
      env: { ...process.env, TERM: 'xterm-256color', COLUMNS: String(size.columns), LINES: String(size.rows) },
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', resolve)
    })
    if (code !== 0) throw new Error(`${line} ended with ${code}:\n${readFileSync(files.out, 'utf8')}`)
    return { command: line, ...size, output: chunksOf(readFileSync(files.out), readFileSync(files.timing, 'utf8')) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** script(1) writes a line of its own before and after what was written to the terminal, which its times do not count. */
function chunksOf(out: Buffer, timing: string): Recording['output'] {
  const decoder = new TextDecoder()
  let at = out.indexOf('\n') + 1
  return timing
    .split('\n')
    .filter((line) => line !== '')
    .map((line): [number, string] => {
      const [seconds = '0', bytes = '0'] = line.split(' ').slice(-2)
      const chunk = out.subarray(at, at + Number(bytes))
      at += Number(bytes)
      return [Math.round(Number(seconds) * 1000), decoder.decode(chunk, { stream: true })]
    })
}
