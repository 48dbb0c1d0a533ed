import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { describe, expect, test } from 'vitest'

const ORRERY = path.join(import.meta.dirname, '..', '..', 'bin', 'orrery.mjs')

/** How the program ends, and what it says on standard error, when whoever reads its output takes `lines` lines and goes. */
async function readAndGo(argv: string[], lines: number): Promise<{ code: number; err: string }> {
  const child = spawn(process.execPath, [ORRERY, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] })
  let err = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (err += text))
  const exited = once(child, 'exit') as Promise<[number]>
  let read = 0
  if (lines > 0) {
    for await (const chunk of child.stdout) {
      read += String(chunk).split('\n').length - 1
      if (read >= lines) break
    }
  }
  child.stdout.destroy()
  const [code] = await exited
  return { code, err }
}

describe('a reader that goes', () => {
  test('before anything was written ends the program quietly with 141', async () => {
    expect(await readAndGo(['explain', '-o', 'wide'], 0)).toEqual({ code: 141, err: '' })
  })

  test('is no matter when everything was read', async () => {
    expect(await readAndGo(['version'], 1)).toEqual({ code: 0, err: '' })
  })
})

/** Tells on standard error which modules a start has loaded. */
const TELL = `data:text/javascript,${encodeURIComponent(`
import { registerHooks } from 'node:module'
import { writeSync } from 'node:fs'
const urls = []
registerHooks({ load: (url, context, next) => (urls.push(url), next(url, context)) })
process.on('exit', () => writeSync(2, urls.join('\\n')))
`)}`

test('help loads the table of commands, and nothing of what they do: it must be there at once', () => {
  const script = `"$0" --import "$1" "$2" --help 2>&1 >/dev/null`
  const loaded = execFileSync('sh', ['-c', script, process.execPath, TELL, ORRERY], { encoding: 'utf8' }).split('\n')
  const ours = loaded.filter((url) => url.includes('/src/'))
  expect(ours.length).toBeGreaterThan(10)
  expect(ours.length).toBeLessThan(40)
  expect(loaded.filter((url) => /\/(?:commands|store|engine|api|worker)\/|\/(?:zod|yaml|pg|hono)\//.test(url))).toEqual(
    [],
  )
})
