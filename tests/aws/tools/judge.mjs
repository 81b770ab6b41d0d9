// An independent judge of IAM policies for the tests: one request per line.
// Reads {"request": ..., "sessionPolicy": ..., "identityPolicies": [...], ...} as
// iam-simulate takes it and answers {"result": "Allowed"} and the like, or
// {"error": ...}. It runs in a process of its own and is part of nothing that
// ships.
import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

for await (const line of createInterface({ input: process.stdin })) {
  let out
  try {
    const r = await runSimulation(JSON.parse(line), {})
    out = r.resultType === 'error' ? { error: JSON.stringify(r.errors) } : { result: r.overallResult }
  } catch (e) {
    out = { error: String(e) }
  }
  process.stdout.write(JSON.stringify(out) + '\n')
}
